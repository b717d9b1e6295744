"""How far a day is from the day before and from the training period."""
