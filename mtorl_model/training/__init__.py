"""The training loop, its checkpoints, and data-parallel training."""
