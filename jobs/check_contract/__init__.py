"""The entry point check_contract: `python -m jobs.check_contract`."""
