"""What the check finds and how often it is wrong, by simulated nights; beside it, what others would have said."""
