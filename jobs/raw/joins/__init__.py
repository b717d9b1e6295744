"""Joins of the log: with its side tables, and of exposures with outcomes that are rows of their own."""
