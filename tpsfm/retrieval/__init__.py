"""Which images look alike, by global descriptors."""
