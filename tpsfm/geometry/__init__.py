"""Cameras, poses and maps as plain arrays."""
