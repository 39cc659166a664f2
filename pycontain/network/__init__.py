"""Networks of containers: addresses, bridges, rules, names."""
