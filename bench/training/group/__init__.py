"""How the ranks of a run come together, and how each learns that another is gone."""
