"""The contracts that all parts share: tables, datasets, days, splits, errors. Imports only the standard library."""
