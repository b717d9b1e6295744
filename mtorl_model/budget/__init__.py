"""How to spend a budget on users and channels: what a pair is worth, which pairs to buy, and the online procedure."""
