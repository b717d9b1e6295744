"""The journal of a campaign: an append-only file from which a killed run resumes without spending twice.

Each line is a JSON object after the first eight hex digits of its SHA-256. The first line is the campaign. Then follow,
for each round, its plan (all offers with their bids, written before the first offer is made) and the outcomes (one line
per batch of offers). Every line is on the disk before the run continues.

A kill can leave two things behind. One is an incomplete last line, which is removed. The other are offers without an
outcome: they are made again with the same key (campaign, round, user) and the same bids, and the environment returns
the same outcome as the first time. A lock keeps a second run from using the journal. A file of another kind is never
changed.
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

from lakehouse.storage.files import make_durable
from mtorl_model.budget.environment import Offers, Outcome, json_value
from mtorl_model.data.money import Ints
from schemas.errors import UserError

_CAMPAIGN, _PLAN, _OUTCOME = "campaign", "plan", "answer"  # the kinds of lines
_DIGEST_DIGITS = 8


class Journal:
    """A context for one campaign. `plans` and `outcomes` are what the file contains, by round."""

    def __init__(self, path: Path, campaign: Mapping[str, Any]) -> None:
        """campaign: its identity. Raises UserError if the journal belongs to another campaign or is in use."""
        self.plans: dict[int, Offers] = {}
        self.outcomes: dict[int, list[Outcome]] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Without truncation: until the lock is acquired, the file may belong to another run.
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            # Unbuffered: bytes that were written reach the operating system even if this process is killed.
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
        self._file.close()  # this releases the lock

    def add_plan(self, round_number: int, offers: Offers) -> None:
        self.plans[round_number] = offers
        self._append(_PLAN, {"round": round_number, **{name: n.tolist() for name, n in offers._asdict().items()}})

    def add_outcome(self, round_number: int, outcome: Outcome) -> None:
        self.outcomes.setdefault(round_number, []).append(outcome)
        self._append(_OUTCOME, {"round": round_number, **_outcome_entry(outcome)})

    def _read(self, path: Path, campaign: dict[str, Any]) -> None:
        content, first_line = self._file.read(), _line(_CAMPAIGN, {"campaign": campaign})
        if len(content) < len(first_line) and first_line.startswith(content):  # new, or killed during the first write
            self._file.truncate(0)
            self._file.seek(0)
            self._write(first_line)
            make_durable(path.parent)  # the entry of the new file
            return
        complete_bytes = 0
        *lines, rest_of_file = content.split(b"\n")
        for number, line in enumerate(lines, start=1):
            entry = _entry(line)
            if number == 1:
                _require_campaign(path, entry, campaign)
            elif entry is not None:
                self._restore(entry)
            elif number < len(lines) or rest_of_file:
                raise UserError(
                    f"{path}, line {number}: damaged in the middle; the journal no longer shows how much was spent"
                )
            else:
                break  # incomplete, although its end of line was written
            complete_bytes += len(line) + 1
        if not lines:
            _require_campaign(path, None, campaign)
        if complete_bytes < len(content):
            self._file.truncate(complete_bytes)
        self._file.seek(complete_bytes)

    def _restore(self, entry: dict[str, Any]) -> None:
        if entry["kind"] == _PLAN:
            self.plans[entry["round"]] = Offers(*(_ints(entry[name]) for name in Offers._fields))
        else:
            self.outcomes.setdefault(entry["round"], []).append(_outcome_of(entry))

    def _append(self, kind: str, entry: dict[str, Any]) -> None:
        self._write(_line(kind, entry))

    def _write(self, line: bytes) -> None:
        unwritten = memoryview(line)
        while unwritten:
            unwritten = unwritten[self._file.write(unwritten) or 0 :]
        os.fsync(self._file.fileno())


def _outcome_entry(outcome: Outcome) -> dict[str, Any]:
    return {
        "user_N": outcome.user_N.tolist(),
        "at_ms_N": outcome.at_ms_N.tolist(),
        "channel_N": outcome.channel_N.tolist(),
        "shown_N": outcome.exposed_N.tolist(),
        "gains_NG": outcome.gains_NG.tolist(),
        "cost_nano_N": outcome.cost_nano_N.tolist(),
        "attributes": {name: [json_value(v) for v in values] for name, values in outcome.attributes.items()},
    }


def _outcome_of(entry: dict[str, Any]) -> Outcome:
    return Outcome(
        user_N=_ints(entry["user_N"]),
        at_ms_N=_ints(entry["at_ms_N"]),
        channel_N=_ints(entry["channel_N"]),
        exposed_N=np.array(entry["shown_N"], dtype=np.bool_),
        gains_NG=_ints(entry["gains_NG"]).reshape(len(entry["user_N"]), -1),
        cost_nano_N=_ints(entry["cost_nano_N"]),
        attributes=entry["attributes"],
    )


def _line(kind: str, entry: dict[str, Any]) -> bytes:
    text = json.dumps({"kind": kind, **entry}, allow_nan=False).encode()
    return _digest(text) + b" " + text + b"\n"


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_DIGEST_DIGITS].encode()


def _entry(line: bytes) -> dict[str, Any] | None:
    """The entry of a line; None if the line is incomplete or damaged."""
    digest, _, text = line.partition(b" ")
    if not text or digest != _digest(text):
        return None
    entry: dict[str, Any] = json.loads(text)
    return entry


def _ints(values: list[Any]) -> Ints:
    return np.array(values, dtype=np.int64)


def _require_campaign(path: Path, entry: dict[str, Any] | None, campaign: dict[str, Any]) -> None:
    """entry: that of the first line; None if the line is incomplete."""
    recorded = entry.get("campaign") if entry else None
    if recorded is None:
        raise UserError(f"{path} is not the journal of a campaign and stays unchanged: name another file")
    if recorded != campaign:
        names = sorted(name for name in recorded.keys() | campaign.keys() if recorded.get(name) != campaign.get(name))
        differences = ", ".join(f"{name}: {recorded.get(name)} there, {campaign.get(name)} here" for name in names)
        raise UserError(f"{path} is the journal of another campaign ({differences}): name another file")
