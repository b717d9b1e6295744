"""The sections of docs/performance.md: each measures some commands and returns its text and its table."""
