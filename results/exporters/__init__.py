"""Runs for the experiment trackers of others: one thin module for each library."""
