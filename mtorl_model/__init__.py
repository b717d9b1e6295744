"""MTORL in PyTorch: model, losses, data loading, training, evaluation, scoring. Imports only `schemas`."""
