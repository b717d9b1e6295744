"""Where tables lie: partitions, publishing, locks, freshness, and the model registry's tables."""
