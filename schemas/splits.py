"""Which users are for training, validation and test. A user's split never changes.

The split is a salted SHA-256 of the user id: it is independent of every other hash in use, and any tool can check it.
The rule is written twice, in Python and in SQL; a test compares the two.
"""

import hashlib

SALT = "mtorl-split-1"
TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
SHARES = {TRAIN: 0.8, VALIDATION: 0.1, TEST: 0.1}  # of the users


def split_of(user_id: int | str) -> str:
    """80 / 10 / 10 by the first 32 bits of SHA-256("salt:user_id"), modulo 10."""
    bucket = int(hashlib.sha256(f"{SALT}:{user_id}".encode()).hexdigest()[:8], 16) % 10
    return TRAIN if bucket < 8 else VALIDATION if bucket == 8 else TEST


def split_sql(user_id: str) -> str:
    """`split_of` as an SQL expression over the column `user_id`.

    Spark reads it, and DuckDB does in an audit, which defines Spark's functions sha2 and conv for it.
    """
    digest = f"sha2(concat('{SALT}:', cast({user_id} AS string)), 256)"
    bucket = f"(cast(conv(substring({digest}, 1, 8), 16, 10) AS bigint) % 10)"
    return f"CASE WHEN {bucket} < 8 THEN '{TRAIN}' WHEN {bucket} = 8 THEN '{VALIDATION}' ELSE '{TEST}' END"
