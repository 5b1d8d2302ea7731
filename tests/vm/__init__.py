"""Tests that run inside the virtual machine (`make test-vm`)."""
