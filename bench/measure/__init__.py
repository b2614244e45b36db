"""What is measured in every benchmark: clocks, rates, the machine, how a run failed, and rows of it."""
