"""What the parts agree on: tables, datasets, paths, publishing. Imports nothing but the standard library."""
