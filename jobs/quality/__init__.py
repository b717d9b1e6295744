"""Audits of published partitions, and a day beside its trailing days."""
