"""What happens to one image: reading, decoding, resizing, augmentation, colour."""
