"""A virtual machine of our own, where limits bite and a power cut hurts nobody. See docs/vm.md."""
