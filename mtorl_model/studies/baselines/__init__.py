"""MTORL and the methods that it is compared with, on the same users, windows and tuning budget."""
