"""Compares ways to spend a budget where the truth is known: the log generator's world as an environment."""
