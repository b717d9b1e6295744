"""Parts of networks, of their training and of their losses that several methods share."""
