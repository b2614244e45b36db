"""Pictures drawn from rows."""
