"""Pages for people: the daily report with its sections and pictures, its index, and the data docs of the audits."""
