"""Pictures, windows, web pages and reports of a map."""
