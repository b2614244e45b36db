"""Two sides of runs held against one another: their systems, their settings, their figures; never a verdict."""
