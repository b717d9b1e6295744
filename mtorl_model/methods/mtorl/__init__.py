"""MTORL (KDD 2025): channel policy and reward by sequence modelling."""
