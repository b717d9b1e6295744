"""The journal of a campaign: an append-only file from which a killed run goes on without spending twice.

One JSON object a line behind the first eight hex digits of its SHA-256: the campaign, then for each round its plan
(all offers, in order, written before the first of them is made) and the answers to it (one line a batch of offers).
Every line is on the disk before the run goes on. What a kill can leave behind is a torn last line, which is cut off,
and offers that were made but not answered: they are made again under the same (round, user), which an environment
answers as it did the first time. A lock keeps a second run away from the same journal.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from mtorl_model.budget.environment import Outcome
from mtorl_model.budget.money import Ints
from schemas.errors import UserError

_CAMPAIGN, _PLAN, _ANSWER = "campaign", "plan", "answer"
_DIGITS = 8


class Choice(NamedTuple):
    """The offers of a round in the order in which they are made: distinct users, a channel each."""

    user_N: Ints
    channel_N: Ints


class Journal:
    """Open for one campaign at a time, as a context. `plans` and `answers` hold what is written, by round."""

    def __init__(self, path: Path, campaign: Mapping[str, Any]) -> None:
        """campaign: what the run is about; a journal of another campaign is refused. Raises UserError."""
        self.plans: dict[int, Choice] = {}
        self.answers: dict[int, list[Outcome]] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: what a write has taken is with the operating system, whatever happens to this process.
            self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
        except OSError as error:
            raise UserError(f"cannot write the journal {path}: {error.strerror}; name another file") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UserError(f"another run is using the journal {path}: wait for it, or name another file") from None
        try:
            self._read(path, json.loads(json.dumps(campaign)))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()  # and with it the lock

    def plan(self, round_number: int, choice: Choice) -> None:
        self.plans[round_number] = choice
        entry = {"round": round_number, "user": choice.user_N.tolist(), "channel": choice.channel_N.tolist()}
        self._append(_PLAN, entry)

    def answer(self, round_number: int, outcome: Outcome) -> None:
        self.answers.setdefault(round_number, []).append(outcome)
        arrays = {name: getattr(outcome, name) for name in outcome.__slots__ if name != "attributes"}
        attributes = {name: [_plain(v) for v in values] for name, values in outcome.attributes.items()}
        lists = {name: values.tolist() for name, values in arrays.items()}
        self._append(_ANSWER, {"round": round_number, **lists, "attributes": attributes})

    def _read(self, path: Path, campaign: dict[str, Any]) -> None:
        whole = 0
        data = self._file.read()
        lines = data.split(b"\n")
        for number, line in enumerate(lines[:-1], start=1):
            entry = _entry(line)
            if entry is None:
                if number < len(lines) - 1:
                    raise UserError(f"{path}, line {number}: damaged in the middle; nobody can tell what was spent")
                break  # torn, though its end of line was written
            self._take(path, number, entry, campaign)
            whole += len(line) + 1
        if whole < len(data):
            self._file.truncate(whole)
        self._file.seek(whole)
        if whole == 0:
            self._append(_CAMPAIGN, {"campaign": campaign})

    def _take(self, path: Path, number: int, entry: dict[str, Any], campaign: dict[str, Any]) -> None:
        kind = entry.pop("kind")
        if number == 1:
            found = entry.get("campaign")
            if kind != _CAMPAIGN or found != campaign:
                raise UserError(f"{path} is the journal of another campaign ({_difference(found, campaign)})")
        elif kind == _PLAN:
            self.plans[entry["round"]] = Choice(_ints(entry["user"]), _ints(entry["channel"]))
        else:
            outcome = Outcome(
                **{name: _ints(entry[name]) for name in ("user_N", "at_ms_N", "channel_N", "cost_nano_N")},
                shown_N=np.array(entry["shown_N"], dtype=np.bool_),
                gains_NG=_ints(entry["gains_NG"]).reshape(len(entry["user_N"]), -1),
                attributes=entry["attributes"],
            )
            self.answers.setdefault(entry["round"], []).append(outcome)

    def _append(self, kind: str, entry: dict[str, Any]) -> None:
        text = json.dumps({"kind": kind, **entry}, allow_nan=False).encode()
        left = memoryview(_digest(text) + b" " + text + b"\n")
        while left:
            left = left[self._file.write(left) or 0 :]
        os.fsync(self._file.fileno())


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_DIGITS].encode()


def _entry(line: bytes) -> dict[str, Any] | None:
    """The entry of a line, None where the line is not whole."""
    digest, _, text = line.partition(b" ")
    if not text or digest != _digest(text):
        return None
    entry: dict[str, Any] = json.loads(text)
    return entry


def _plain(value: Any) -> Any:
    """As JSON has it: a NaN is a missing value, as the journeys take it."""
    return None if value != value else value.item() if isinstance(value, np.generic) else value


def _ints(values: list[Any]) -> Ints:
    return np.array(values, dtype=np.int64)


def _difference(found: Any, wanted: dict[str, Any]) -> str:
    if not isinstance(found, dict):
        return "its first line is none"
    names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    return ", ".join(f"{name}: {found.get(name)} there, {wanted.get(name)} here" for name in names)
