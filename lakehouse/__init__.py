"""Where tables are stored: partitions, publishing, locks, freshness, and the tables of the model registry."""
