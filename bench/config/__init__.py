"""What was asked for: the words of a command line, checked before anything starts."""
