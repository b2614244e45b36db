"""Rows on disk: tables and columns, write-once files, the journal of a running attempt, and their writer."""
