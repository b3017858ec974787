"""Photos on disk: headers, pixels, masks."""
