"""What others have published of these networks: each figure with its protocol, its source and how it was read."""
