"""RMTL: click and conversion prediction whose losses are weighted by critics (Liu et al., WWW 2023)."""

METHODS = {"rmtl": "mtorl_model.methods.rmtl.method"}
