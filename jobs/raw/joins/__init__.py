"""Joins of the log: with its side tables, and of exposures with separate rows of outcomes."""
