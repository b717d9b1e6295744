"""From the tables of the lake to a CandidateStore: reading the rows of days, and encoding them."""
