"""The configurations of a command line on Slurm, from submission to their last rows."""
