"""What all claims share: their form, the finished runs on disk, the verdict, and training on the built-in data."""
