"""Audits of published partitions, and the comparison of a day with the days before it."""
