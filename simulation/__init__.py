"""Budgets compared where the truth is known: the generator's world as an environment. Stands above all packages."""
