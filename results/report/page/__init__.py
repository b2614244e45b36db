"""The report as one page: an HTML file that needs nothing beside it."""
