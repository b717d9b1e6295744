"""Parts that the baselines share: settings, training and prediction of networks, losses, transitions."""
