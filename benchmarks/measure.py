"""What a command costs: seconds, processor time, memory and bytes read, of the process and all that it starts.

A command is run as it would be typed, in a process group of its own; a look at its process tree several times a second
adds up what each process holds and has used. Peers are run in turn (A, B, A, B), so that what else the machine does
falls on all of them, and a ratio is taken within each round.
"""

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from schemas.errors import UserError

_LOOK_S = 0.25  # a look takes some ten milliseconds, most of it for the memory of the JVM
_SHOWN = 2000  # characters of what a failed command has said


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run of a command has cost.

    cpu_s: user and system time. peak_bytes: the largest sum of proportional set sizes over the process tree (a page
    that processes share counts once). read_bytes: what the processes have asked the system to read, from files, pipes
    and sockets alike, whether or not it came from a disk. said: its standard output. figures: the JSON object
    on the last line of that, if any.
    """

    seconds: float
    cpu_s: float
    peak_bytes: int
    read_bytes: int
    said: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of the repeats, and the smallest and largest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(median(values), min(values), max(values))

    def times(self, factor: float) -> "Spread":
        return Spread(self.median * factor, self.low * factor, self.high * factor)


def measured(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Cost:
    """Run the command to its end; a UserError with the end of what it said where it fails.

    environment: variables on top of this process's own. Whatever ends this process early ends the command with it.
    """
    words = [str(word) for word in command]
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
        start = time.monotonic()
        process = subprocess.Popen(
            words, stdout=said, stderr=complained, env={**os.environ, **(environment or {})}, start_new_session=True
        )
        watch = _Watch(process.pid)
        try:
            watch.start()
            _, status, used = os.wait4(process.pid, 0)
            seconds = time.monotonic() - start
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            watch.stop()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output = _content(said)
        if process.returncode != 0:
            tail = (output + _content(complained))[-_SHOWN:]
            raise UserError(f"{' '.join(words)} ended with status {process.returncode}: {tail}")
    # A look misses what comes after it; the system's own count misses processes that nobody has waited for.
    cpu_s = max(watch.cpu_s, used.ru_utime + used.ru_stime)
    return Cost(seconds, cpu_s, watch.peak_bytes, watch.read_bytes, output, _figures(output))


def alternating(
    peers: Mapping[str, Callable[[int], Sequence[Cost]]], repeats: int, say: Callable[[str], None] = print
) -> dict[str, list[Cost]]:
    """Each peer's cost in each round; a peer that is several commands one after the other costs their sum.

    peers: what runs a peer in the round of that number.
    """
    found: dict[str, list[Cost]] = {name: [] for name in peers}
    for number in range(repeats):
        for name, run in peers.items():
            cost = together(run(number))
            found[name].append(cost)
            say(f"  round {number + 1} of {repeats}: {name} {cost.seconds:.1f} s, {cost.cpu_s:.1f} s of processor"
                f" time, {cost.peak_bytes / 2**30:.2f} GiB")  # fmt: skip
    return found


def together(costs: Sequence[Cost]) -> Cost:
    """Of commands run one after the other: times and bytes add up, memory is the largest, figures are the last's."""
    return Cost(
        sum(c.seconds for c in costs), sum(c.cpu_s for c in costs), max(c.peak_bytes for c in costs),
        sum(c.read_bytes for c in costs), costs[-1].said, costs[-1].figures,
    )  # fmt: skip


def ratio(of: Sequence[float], to: Sequence[float]) -> Spread:
    """Round by round, so that a machine that is slow for a while is slow for both."""
    return Spread.of([one / other for one, other in zip(of, to, strict=True)])


class _Watch(threading.Thread):
    """Looks at a process and its descendants until told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._ended = threading.Event()
        self._cpu_s: dict[tuple[int, float], float] = {}  # by process id and start: an id may be given out again
        self.peak_bytes = self.read_bytes = 0

    @property
    def cpu_s(self) -> float:
        return sum(self._cpu_s.values())

    def run(self) -> None:
        while not self._ended.wait(_LOOK_S):
            self._look()

    def stop(self) -> None:
        self._ended.set()
        if self.is_alive():
            self.join()

    def _look(self) -> None:
        held = read = 0
        for process in _tree(self._root):
            # A process may end while it is looked at; what it had used by the look before stands.
            try:
                key = process.pid, process.create_time()
                used = process.cpu_times()
                self._cpu_s[key] = used.user + used.system
                # With what those have read that it has waited for: unlike its times, these the system adds up. Spark's
                # Python workers, which nobody waits for, count as long as they live.
                read += process.io_counters().read_chars
                held += process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
                continue
        self.peak_bytes = max(self.peak_bytes, held)
        self.read_bytes = max(self.read_bytes, read)


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _content(file: Any) -> str:
    file.seek(0)
    return str(file.read())


def _figures(output: str) -> dict[str, Any]:
    """The JSON object on the last line, as the measured modules print it; empty where there is none."""
    last = output.strip().rpartition("\n")[2]
    if not last.startswith("{"):
        return {}
    try:
        found = json.loads(last)
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
