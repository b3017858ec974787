"""Exact keypoints: patches aligned along the tracks of a map, in a query, and in the matches of two images."""
