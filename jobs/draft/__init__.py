"""The first draft of a dataset contract from a sample of unknown files: what can be read off the texts, and what only a
person can answer."""
