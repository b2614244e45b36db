"""What is measured: one run, from its configuration to its rows."""
