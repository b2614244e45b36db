"""The suite beside what one would use without it."""
