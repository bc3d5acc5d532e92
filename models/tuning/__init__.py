"""What changes a given tower."""
