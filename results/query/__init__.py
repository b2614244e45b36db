"""Asks the tables of a store in SQL."""
