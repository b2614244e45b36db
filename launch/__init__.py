"""Where it runs: a command line becomes checked configurations, and those become jobs on Slurm or on this machine."""
