"""Spark itself: its context, progress, and blocks and buckets of rows that its workers compute and write."""
