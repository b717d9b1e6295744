"""How much a day differs from the day before and from the training period of the model."""
