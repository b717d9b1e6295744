"""Tables of methods on candidates."""
