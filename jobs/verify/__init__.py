"""Checks everything that a lake has stored: python -m jobs.verify."""
