"""Simple methods that any other has to beat."""
