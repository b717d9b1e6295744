"""The size of a generated log, and its division into blocks of users that fit in memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UserError

_BLOCK_ROWS = 200_000
_MAX_DAYS = 3_660


@dataclass(frozen=True, slots=True)
class Size:
    """users and days are exact; rows is approximate, with at least one row per user."""

    users: int
    days: int
    rows: int
    seed: int

    def __post_init__(self) -> None:
        if self.users < 1:
            raise UserError(f"--users {self.users}: a log needs at least 1 user")
        if not 1 <= self.days <= _MAX_DAYS:
            raise UserError(f"--days {self.days}: choose 1 to {_MAX_DAYS}")
        if self.rows < self.users:
            raise UserError(
                f"--rows {self.rows}: every user has a row, so choose at least {self.users} or fewer --users"
            )
        if self.seed < 0:
            raise UserError(f"--seed {self.seed}: choose 0 or more")

    @property
    def rows_per_user(self) -> float:
        return self.rows / self.users

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], np.random.Generator]]:
        """Blocks of users, numbered from 0 over the whole log, each with a separate random generator."""
        block = max(1, int(_BLOCK_ROWS / self.rows_per_user))
        for start in range(0, self.users, block):
            yield np.arange(start, min(start + block, self.users)), np.random.default_rng([self.seed, start])
