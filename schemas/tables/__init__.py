"""One module a table of the lake: its columns, its key, and the expectations of its audit."""
