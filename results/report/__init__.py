"""What the rows say, for people."""
