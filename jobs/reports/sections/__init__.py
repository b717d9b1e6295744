"""The sections of a day's report: each module makes one."""
