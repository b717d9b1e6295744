"""The journal of a campaign: an append-only file from which a killed run goes on without spending twice.

One JSON object a line behind the first eight hex digits of its SHA-256: the campaign, then for each round its plan
(all offers with their bids, in order, written before the first of them is made) and the answers to it (one line a batch
of offers). Every line is on the disk before the run goes on. What a kill can leave behind is a torn last line, which is
cut off, and offers that were made but not answered: they are made again under the same (campaign, round, user) and at
the same bids, which an environment answers as it did the first time. A lock keeps a second run away from the same
journal; a file that is no journal is left as it is.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from lakehouse.files import make_durable
from mtorl_model.budget.environment import Offers, Outcome, plain
from mtorl_model.data.money import Ints
from schemas.errors import UserError

_CAMPAIGN, _PLAN, _ANSWER = "campaign", "plan", "answer"
_DIGITS = 8


class Journal:
    """Open for one campaign at a time, as a context. `plans` and `answers` hold what is written, by round."""

    def __init__(self, path: Path, campaign: Mapping[str, Any]) -> None:
        """campaign: what the run is about; a journal of another campaign is refused. Raises UserError."""
        self.plans: dict[int, Offers] = {}
        self.answers: dict[int, list[Outcome]] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Nothing is cut off before the lock is held: the file may be another run's.
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            # Unbuffered: what a write has taken is with the operating system, whatever happens to this process.
            self._file = os.fdopen(handle, "r+b", buffering=0)
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

    def plan(self, round_number: int, offers: Offers) -> None:
        self.plans[round_number] = offers
        self._append(_PLAN, {"round": round_number, **{name: n.tolist() for name, n in offers._asdict().items()}})

    def answer(self, round_number: int, outcome: Outcome) -> None:
        self.answers.setdefault(round_number, []).append(outcome)
        arrays = {name: getattr(outcome, name) for name in outcome.__slots__ if name != "attributes"}
        attributes = {name: [plain(v) for v in values] for name, values in outcome.attributes.items()}
        lists = {name: values.tolist() for name, values in arrays.items()}
        self._append(_ANSWER, {"round": round_number, **lists, "attributes": attributes})

    def _read(self, path: Path, campaign: dict[str, Any]) -> None:
        data, first = self._file.read(), _line(_CAMPAIGN, {"campaign": campaign})
        if len(data) < len(first) and first.startswith(data):  # new, or killed while it wrote its first line
            self._file.truncate(0)
            self._file.seek(0)
            self._write(first)
            make_durable(path.parent)  # the entry of a new file
            return
        whole = 0
        *lines, rest = data.split(b"\n")
        for number, line in enumerate(lines, start=1):
            entry = _entry(line)
            if number == 1:
                _require_campaign(path, entry, campaign)
            elif entry is not None:
                self._take(entry)
            elif number < len(lines) or rest:
                raise UserError(f"{path}, line {number}: damaged in the middle; nobody can tell what was spent")
            else:
                break  # torn, though its end of line was written
            whole += len(line) + 1
        if not lines:
            _require_campaign(path, None, campaign)
        if whole < len(data):
            self._file.truncate(whole)
        self._file.seek(whole)

    def _take(self, entry: dict[str, Any]) -> None:
        if entry["kind"] == _PLAN:
            self.plans[entry["round"]] = Offers(*(_ints(entry[name]) for name in Offers._fields))
        else:
            outcome = Outcome(
                **{name: _ints(entry[name]) for name in ("user_N", "at_ms_N", "channel_N", "cost_nano_N")},
                shown_N=np.array(entry["shown_N"], dtype=np.bool_),
                gains_NG=_ints(entry["gains_NG"]).reshape(len(entry["user_N"]), -1),
                attributes=entry["attributes"],
            )
            self.answers.setdefault(entry["round"], []).append(outcome)

    def _append(self, kind: str, entry: dict[str, Any]) -> None:
        self._write(_line(kind, entry))

    def _write(self, line: bytes) -> None:
        left = memoryview(line)
        while left:
            left = left[self._file.write(left) or 0 :]
        os.fsync(self._file.fileno())


def _line(kind: str, entry: dict[str, Any]) -> bytes:
    text = json.dumps({"kind": kind, **entry}, allow_nan=False).encode()
    return _digest(text) + b" " + text + b"\n"


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_DIGITS].encode()


def _entry(line: bytes) -> dict[str, Any] | None:
    """The entry of a line, None where the line is not whole."""
    digest, _, text = line.partition(b" ")
    if not text or digest != _digest(text):
        return None
    entry: dict[str, Any] = json.loads(text)
    return entry


def _ints(values: list[Any]) -> Ints:
    return np.array(values, dtype=np.int64)


def _require_campaign(path: Path, entry: dict[str, Any] | None, campaign: dict[str, Any]) -> None:
    """entry: of the first line, None where it is not whole."""
    found = entry.get("campaign") if entry else None
    if found is None:
        raise UserError(f"{path} is no journal of a campaign and is left as it is: name another file")
    if found != campaign:
        names = sorted(name for name in found.keys() | campaign.keys() if found.get(name) != campaign.get(name))
        said = ", ".join(f"{name}: {found.get(name)} there, {campaign.get(name)} here" for name in names)
        raise UserError(f"{path} is the journal of another campaign ({said}): name another file")
