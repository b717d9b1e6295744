"""What `make` runs: scripts set the environment and start these small programs as `python -m bin.<module>`."""
