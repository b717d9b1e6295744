"""The commands of `make`: scripts set the environment and start these small programs as `python -m bin.<module>`."""
