"""Exposures to journeys, windows and the feature spec: what was known at each step."""
