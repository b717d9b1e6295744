"""From logged exposures to what the learner of UnifiedRL reads: predictions, requests, rewards, states."""
