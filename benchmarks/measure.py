"""Measures a command: seconds, processor time, memory and bytes read, of the process and of all that it starts.

A command runs as a person would type it, in its own process group. A thread samples its processes several times a
second while it runs. Peers run in turn (A, B, A, B), so that other load on the machine affects all of them, and a ratio
compares the costs of one round.
"""

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import psutil

from schemas.errors import UserError

_TREE_INTERVAL_S = 0.25  # one sample takes about ten milliseconds, most of it for the memory of the JVM
_PROCESS_INTERVAL_S = 0.05
_ERROR_CHARACTERS = 2000  # how much of a failed command's output its error shows


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one run of a command.

    cpu_s: user and system time.
    peak_bytes: the largest sum of proportional set sizes over the process tree (a page that processes share counts
        once); if only the command's own process was sampled, its largest resident set.
    read_bytes: bytes that the processes read through system calls, from files, pipes and sockets, whether or not they
        came from a disk; 0 if only the command's own process was sampled.
    output: standard output.
    figures: the JSON object on the last line of the output; empty if that line is something else.
    """

    seconds: float
    cpu_s: float
    peak_bytes: int
    read_bytes: int
    output: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, the smallest and the largest of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def summarise(cls, values: Sequence[float]) -> "Spread":
        return cls(median(values), min(values), max(values))


def measure(
    command: Sequence[str | Path],
    environment: Mapping[str, str] | None = None,
    *,
    whole_tree: bool = True,
    servers: Sequence[int] = (),
) -> Cost:
    """Run the command to its end. If this process ends early, the command ends with it.

    environment: variables that are added to those of this process.
    whole_tree: False samples only the command's own process, which disturbs it less.
    servers: ids of running processes that work for the command. The processor time that they and their children use
        from now on counts, like their memory; their read_bytes count from their start.

    Raises UserError, with the end of the command's output, if the command fails.
    """
    words = [str(word) for word in command]
    with tempfile.TemporaryFile("w+") as output_file, tempfile.TemporaryFile("w+") as error_file:
        start = time.monotonic()
        process = subprocess.Popen(
            words,
            stdout=output_file,
            stderr=error_file,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        usage = _TreeUsage(process.pid, servers) if whole_tree else _ProcessUsage(process.pid)
        sampler = _Sampler(usage)
        try:
            sampler.start()
            _, status, used = os.wait4(process.pid, 0)
            seconds = time.monotonic() - start
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            sampler.stop()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output = _content(output_file)
        if process.returncode != 0:
            tail = (output + _content(error_file))[-_ERROR_CHARACTERS:]
            raise UserError(f"{' '.join(words)} ended with status {process.returncode}: {tail}")
    # The samples miss the time after the last of them. The system's count misses processes without a waiting parent.
    cpu_s = max(usage.cpu_s, used.ru_utime + used.ru_stime)
    return Cost(seconds, cpu_s, usage.peak_bytes, usage.read_bytes, output, _figures(output))


def measure_in_turn(
    peers: Mapping[str, Callable[[], Sequence[Cost]]], rounds: int, log: Callable[[str], None] = print
) -> dict[str, list[Cost]]:
    """The cost of each peer in each round.

    peers: by name, a function that runs the peer once. A peer may be several commands that run in sequence.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in peers}
    for number in range(1, rounds + 1):
        for name, run in peers.items():
            cost = total(run())
            costs[name].append(cost)
            log(
                f"  round {number} of {rounds}: {name} {cost.seconds:.1f} s, {cost.cpu_s:.1f} s of processor time, "
                f"{cost.peak_bytes / 2**30:.2f} GiB"
            )
    return costs


def total(costs: Sequence[Cost]) -> Cost:
    """The cost of commands that ran in sequence: sums of times and bytes, the largest memory, the last figures."""
    return Cost(
        seconds=sum(cost.seconds for cost in costs),
        cpu_s=sum(cost.cpu_s for cost in costs),
        peak_bytes=max(cost.peak_bytes for cost in costs),
        read_bytes=sum(cost.read_bytes for cost in costs),
        output=costs[-1].output,
        figures=costs[-1].figures,
    )


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """The spread of the ratios within each round: a machine that is slow for a while is slow for both."""
    return Spread.summarise([a / b for a, b in zip(numerators, denominators, strict=True)])


class _Usage(Protocol):
    """The samples of a running command, summed up."""

    interval_s: float
    cpu_s: float
    peak_bytes: int
    read_bytes: int

    def sample(self) -> None: ...


class _TreeUsage:
    """Samples a process, and servers that run already, each with all its descendants."""

    interval_s = _TREE_INTERVAL_S

    def __init__(self, pid: int, servers: Sequence[int] = ()) -> None:
        self._roots = [psutil.Process(server) for server in servers]
        self._earlier_cpu_s = {_key(process): _cpu_s(process) for process in self._processes()}
        self._roots.append(psutil.Process(pid))
        self._cpu_s: dict[tuple[int, float], float] = {}
        self.cpu_s = 0.0
        self.peak_bytes = self.read_bytes = 0

    def sample(self) -> None:
        memory_bytes = read_bytes = 0
        for process in self._processes():
            # A process may end during the sample; its processor time of the previous sample then stays.
            try:
                key = _key(process)
                self._cpu_s[key] = _cpu_s(process) - self._earlier_cpu_s.get(key, 0.0)
                # The system adds the bytes of a child to its parent's once the parent has waited for it. Spark's
                # Python workers have no parent that waits: they count as long as they live.
                read_bytes += process.io_counters().read_chars
                memory_bytes += process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
                continue
        self.cpu_s = sum(self._cpu_s.values())
        self.peak_bytes = max(self.peak_bytes, memory_bytes)
        self.read_bytes = max(self.read_bytes, read_bytes)

    def _processes(self) -> list[psutil.Process]:
        processes = []
        for root in self._roots:
            with suppress(psutil.NoSuchProcess):
                processes += [root, *root.children(recursive=True)]
        return processes


def _key(process: psutil.Process) -> tuple[int, float]:
    """Its id and its start: the system uses ids again."""
    return process.pid, process.create_time()


def _cpu_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


class _ProcessUsage:
    """Reads the largest resident set so far of one process.

    The system's own figure at the end, ru_maxrss, would include the memory of the parent at the start.
    """

    interval_s = _PROCESS_INTERVAL_S
    cpu_s = 0.0
    read_bytes = 0

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self.peak_bytes = 0

    def sample(self) -> None:
        try:
            lines = self._status.read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):  # the process has just ended
            return
        peaks = (int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
        self.peak_bytes = max(self.peak_bytes, next(peaks, 0))


class _Sampler(threading.Thread):
    """Takes samples until it is stopped."""

    def __init__(self, usage: _Usage) -> None:
        super().__init__(daemon=True)
        self._usage = usage
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(self._usage.interval_s):
            self._usage.sample()

    def stop(self) -> None:
        self._stopped.set()
        if self.is_alive():
            self.join()


def _content(file: Any) -> str:
    file.seek(0)
    return str(file.read())


def _figures(output: str) -> dict[str, Any]:
    """The JSON object on the last line; empty if that line is something else."""
    last_line = output.strip().rpartition("\n")[2]
    if not last_line.startswith("{"):
        return {}
    try:
        figures = json.loads(last_line)
    except json.JSONDecodeError:
        return {}
    return figures if isinstance(figures, dict) else {}
