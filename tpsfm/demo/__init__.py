"""A rendered scene with known cameras."""
