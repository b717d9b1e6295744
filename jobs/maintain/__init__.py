"""Removes what no command needs any more: python -m jobs.maintain."""
