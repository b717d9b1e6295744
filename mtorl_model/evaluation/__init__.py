"""Metrics with intervals over users, paired comparisons, off-policy estimates."""
