"""The inputs of the learner of UnifiedRL, from logged exposures: predictions, requests, states, rewards."""
