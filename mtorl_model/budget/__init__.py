"""Spends a budget on (user, channel) pairs: nightly as a plan, online as a campaign that survives a kill."""
