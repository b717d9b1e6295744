"""The daily report: what its sections say, the pictures in them, and the pages that they make."""
