"""Ends like a killed process in the middle of a transaction on MLflow's database, the file given as argument."""

import os
import sqlite3
import sys

connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA cache_size = 1")  # so that changed pages reach the file before the transaction ends
connection.execute("BEGIN")
for number in range(20):
    connection.execute("UPDATE model_version_tags SET value = ?", (str(number) * 500,))
os._exit(0)  # without a rollback
