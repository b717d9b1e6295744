"""Spark: raw logs to sequences. Transforms are pure DataFrame -> DataFrame; only the build_* entry points do I/O."""
