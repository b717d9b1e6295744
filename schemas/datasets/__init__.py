"""One module a log layout. To bring your own log, add a module with a `DATASETS` tuple; see docs/own-log.md."""
