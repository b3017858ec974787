"""Matching of local features."""
