"""The study of multi-task networks and of RMTL's weights: table 1 of its paper."""
