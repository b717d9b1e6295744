"""Predictions of trained models, for windows and for whole user bases."""
