"""The counts and the damage of a check of a lake."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from schemas.errors import UserError


@dataclass(slots=True)
class Findings:
    """counts: of the checked files and partitions, by kind. damage: a line for each fault, with its remedy."""

    counts: Counter[str] = field(default_factory=Counter)
    damage: list[str] = field(default_factory=list)

    def check(self, name: str, read: Callable[[], object]) -> None:
        """Count one more of that name. If reading it raises a UserError, its message is a line of damage."""
        self.counts[name] += 1
        try:
            read()
        except UserError as error:
            self.damage.append(str(error))
