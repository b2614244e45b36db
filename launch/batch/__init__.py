"""A job for Slurm: what its batch script says."""
