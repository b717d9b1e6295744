"""Creates the database MLFLOW_DATABASE, postgresql://USER:PASSWORD@HOST:PORT/NAME, unless it exists.

MLflow needs a database of its own, and creates its tables itself.
"""

import os
from contextlib import closing
from urllib.parse import urlsplit

import psycopg2
from psycopg2 import sql


def main() -> None:
    url = urlsplit(os.environ["MLFLOW_DATABASE"])
    name = url.path.removeprefix("/")
    with closing(psycopg2.connect(url._replace(path="/postgres").geturl())) as connection:
        connection.autocommit = True  # a database cannot be created within a transaction
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


if __name__ == "__main__":
    main()
