"""One module for each log layout. To add your own log, add a module with a `DATASETS` tuple: see docs/own-log.md."""
