"""Simple methods that others are measured against."""

METHODS = {"boosting": "mtorl_model.methods.baselines.boosting"}
