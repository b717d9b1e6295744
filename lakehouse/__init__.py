"""Where tables are stored: Delta tables, publishing, manifests, freshness, and the tables of the model registry."""
