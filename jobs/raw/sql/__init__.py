"""The parsed SQL of contracts."""
