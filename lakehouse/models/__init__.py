"""The registered models of a lake: MLflow's store, read by every step."""
