"""Published windows to batches of tensors."""
