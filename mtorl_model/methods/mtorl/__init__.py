"""MTORL: channel policy and gains from one sequence network, trained with preferences (the paper's method); BC."""

METHODS = {"mtorl": "mtorl_model.methods.mtorl.method", "bc": "mtorl_model.methods.mtorl.bc"}
