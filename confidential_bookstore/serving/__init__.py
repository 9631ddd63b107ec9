"""What the four services have in common besides the marble runtime: settings, request fields, watching, one thread."""
