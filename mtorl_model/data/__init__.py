"""From published windows to batches of tensors."""
