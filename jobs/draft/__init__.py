"""The first draft of a dataset contract, from a sample of unknown files.

Questions that only a person can answer stay open in the draft.
"""
