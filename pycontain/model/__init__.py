"""Plain typed data, without behaviour that touches the machine."""
