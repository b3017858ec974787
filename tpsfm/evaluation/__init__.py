"""Errors of matches, poses, trajectories and retrieval against the truth."""
