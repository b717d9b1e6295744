"""Spark itself: sessions, progress, and tables that its workers compute and write."""
