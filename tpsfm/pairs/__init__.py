"""Which photos are matched with each other."""
