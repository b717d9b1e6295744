"""The sections of a day's report, one module each."""
