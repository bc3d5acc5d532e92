"""What one knows of each sample before training: scores in a table of Parquet files. Runs no model."""
