"""One folder a method: network, losses, config, fit, predict."""
