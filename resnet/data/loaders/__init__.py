"""In which order images become batches, and how fast: one loader a library, with one iterator shape."""
