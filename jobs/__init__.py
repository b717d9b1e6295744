"""Raw logs to sequences in Spark's workers, audits, drift, reports. The modules here are the entry points."""
