"""Raw log files to exposures and quarantine."""
