"""How files are stored: Delta tables, data files, whole files, and the scratch folder."""
