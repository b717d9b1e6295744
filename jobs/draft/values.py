"""Whether the texts of a column are numbers, flags or words, and which of them stand for a missing value."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

_WHOLE_NUMBER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_LEADING_ZERO = re.compile(r"0\d+")
_LARGEST_BIGINT = 2**63 - 1

# Texts that mean "missing" in a column of any type, and those that do so only among numbers: NA is also Namibia.
_NULL_TOKENS = frozenset(
    {"", "NULL", "null", "\\N", "NaN", "nan", "None", "N/A", "n/a", "(null)", "<null>", "undefined"}
)
_NULL_AMONG_NUMBERS = frozenset({"NA", "na", "none", "nil", "-", "--", "?", ".", "unknown", "Unknown", "UNKNOWN"})

_FLAGS = (
    ("0", "1"), ("false", "true"), ("f", "t"), ("no", "yes"), ("n", "y"), ("0.0", "1.0"),
    ("nein", "ja"), ("non", "oui"), ("no", "si"), ("no", "sí"), ("n\u00e3o", "sim"),
)  # fmt: skip
# A larger share of texts that are not numbers makes a column one of words.
_LARGEST_UNREADABLE_SHARE = 0.01


@dataclass(frozen=True, eq=False)
class ColumnSample:
    """The texts of one column in the sample.

    name: the name in the header, or, without a header, one that the draft gives.
    dtype: the type in the contract: bigint, double or string.
    null_tokens: the texts of this column that mean "missing"; the empty text is one of them if it occurs.
    unreadable: texts that are not of the type, most frequent first; their rows would be refused.
    """

    name: str
    texts: tuple[str, ...]
    dtype: str
    null_tokens: frozenset[str]
    unreadable: tuple[str, ...] = ()

    @cached_property
    def values(self) -> tuple[str, ...]:
        """The texts that are not missing, blanks at both ends removed."""
        return tuple(text for text in map(str.strip, self.texts) if text not in self.null_tokens)

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(self.values)

    @property
    def missing_share(self) -> float:
        return 1 - len(self.values) / len(self.texts) if self.texts else 0.0

    @property
    def is_unique(self) -> bool:
        return len(self.values) > 1 and len(self.counts) == len(self.values)

    @cached_property
    def flag_words(self) -> tuple[str, str] | None:
        """The words for no and yes, in lower case, if the column has no other values.

        One of the two may be absent if the column has numbers: a rare outcome is not in every sample.
        """
        seen = {value.lower() for value in self.counts}
        for words in _FLAGS:
            if seen == set(words) or (seen and seen < set(words) and self.dtype != "string"):
                return words
        return None

    @property
    def is_flag(self) -> bool:
        return self.flag_words is not None

    @property
    def true_share(self) -> float:
        """The share of rows whose flag is set."""
        yes = self.flag_words[1] if self.flag_words else ""
        return sum(n for value, n in self.counts.items() if value.lower() == yes) / max(len(self.texts), 1)

    @property
    def has_decimal_commas(self) -> bool:
        return (
            bool(self.values)
            and all(_DECIMAL_COMMA.fullmatch(v) or _WHOLE_NUMBER.fullmatch(v) for v in self.counts)
            and any("," in value for value in self.counts)
        )

    @property
    def usual_missing_number(self) -> str | None:
        """-1 or a similar number that is far from rare and the only negative one: it may mean "missing"."""
        negative = [value for value in self.counts if value.startswith("-")]
        if self.dtype == "string" or len(negative) != 1 or len(self.counts) < 3:
            return None
        return negative[0] if self.counts[negative[0]] > 0.001 * len(self.values) else None


def column_sample(name: str, texts: Sequence[str]) -> ColumnSample:
    """The type and the null tokens of a column, from its texts."""
    counts = Counter(map(str.strip, texts))
    null_tokens = {text for text in counts if text in _NULL_TOKENS}
    words = [text for text in counts if text not in null_tokens and not _NUMBER.fullmatch(text)]
    numbers = [text for text in counts if text not in null_tokens and _NUMBER.fullmatch(text)]
    null_among_numbers = {text for text in words if text in _NULL_AMONG_NUMBERS}
    unreadable = sorted(set(words) - null_among_numbers, key=lambda text: (-counts[text], text))
    readable_rows, unreadable_rows = (sum(counts[text] for text in group) for group in (numbers, unreadable))
    is_number = readable_rows > 0 and unreadable_rows <= _LARGEST_UNREADABLE_SHARE * readable_rows
    if not is_number or any(_LEADING_ZERO.fullmatch(text) for text in numbers):
        return ColumnSample(name, tuple(texts), "string", frozenset(null_tokens))
    null_tokens |= null_among_numbers
    return ColumnSample(name, tuple(texts), _number_type(name, numbers), frozenset(null_tokens), tuple(unreadable))


def shortened(text: str) -> str:
    """A text of the log for a comment or a message: without control characters, at most 40 characters."""
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return printable if len(printable) <= 40 else f"{printable[:37]}..."


def is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text.strip()) is not None


def _number_type(name: str, numbers: Sequence[str]) -> str:
    """bigint for whole numbers that fit into 64 bits, string for longer ones, double for the others.

    An id that a tool saved as 10002.0 because other rows lack it is a whole number.
    """
    digits = [text[:-2] if text.endswith(".0") and _names_an_id(name) else text for text in numbers]
    if not all(_WHOLE_NUMBER.fullmatch(text) for text in digits):
        return "double"
    return "bigint" if all(abs(int(text)) <= _LARGEST_BIGINT for text in digits) else "string"


def _names_an_id(name: str) -> bool:
    return re.search(r"(?:^|[_\W])u?id$|Id$|ID$|[a-z]id$", name) is not None
