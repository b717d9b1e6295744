"""Raw log to sequences on a standalone cluster: more workers, more files of users a day, and a skewed log."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import machine
from benchmarks.commands import raw_to_sequences
from benchmarks.inputs.generated_log import (
    count_rows,
    generated_log,
    log_file,
    published_rows,
    scratch_lake,
    skewed_log,
)
from benchmarks.measure import Cost, Spread, measure, measure_in_turn, ratio
from benchmarks.sections.section import Section, gib, seconds, times
from benchmarks.standalone_cluster import standalone_cluster
from schemas.errors import UserError
from schemas.tables import EXPOSURES

TEXT = """\
`build_tables` of a generated log of {rows} rows on a standalone cluster of Spark, whose master and workers are
processes of this machine. A worker has one core. The start of the master and of the workers does not count; that of the
executors and of the driver, which are on the same two cores, does. *Files* are the files of users that a day has in
each table (`MTORL_FILES_PER_DAY`), each of which is the work of one task. The ratios compare with one worker and 8
files, in the same round.

The skewed log has as many rows: in one of ten, the user is replaced by the same user, who then has a
tenth of the log. All rows of a user are the work of one task. Its ratio is to the log without skew, on the same workers
and files. Measured: {skew} in time."""


class _Setting(NamedTuple):
    workers: int
    files: int
    is_skewed: bool = False

    @property
    def name(self) -> str:
        return f"{self.workers} workers, {self.files} files{', skewed' if self.is_skewed else ''}"

    @property
    def reference(self) -> str:
        """The name of the setting that its ratio is to."""
        return (self._replace(is_skewed=False) if self.is_skewed else _SETTINGS[0]).name


_SETTINGS = (
    *(_Setting(workers, files) for files in (8, 16) for workers in (1, 2)),
    *(_Setting(2, files, is_skewed=True) for files in (8, 16)),
)


def measure_section(cache: Path, command: str, size: int, repeats: int) -> Section:
    """size: in rows; see run.py for the others."""
    logs = {False: generated_log(cache, size), True: skewed_log(cache, size)}
    rows = count_rows(log_file(logs[False]))
    peers: dict[str, Callable[[], Sequence[Cost]]] = {
        setting.name: partial(_run, cache, logs[setting.is_skewed], setting) for setting in _SETTINGS
    }
    costs = measure_in_turn(peers, repeats)
    skewed = next(setting for setting in _SETTINGS if setting.is_skewed)
    text = TEXT.format(rows=f"{rows:,}", skew=times(_ratio(costs, skewed, lambda cost: cost.seconds)))
    headings = ("log", "workers", "files", "processor time", "ratio", "time", "ratio of time", "memory", "repeats")
    table = [_table_row(setting, costs) for setting in _SETTINGS]
    return Section("More workers, and a skewed log", text, command, machine.description(), headings, table)


def _run(cache: Path, raw: Path, setting: _Setting) -> list[Cost]:
    """The cost of the job on a new cluster and a new lake."""
    environment = {"MTORL_FILES_PER_DAY": str(setting.files), "SPARK_LOCAL_IP": "127.0.0.1"}
    with scratch_lake(cache) as lake, standalone_cluster(setting.workers, lake.root / "cluster") as cluster:
        command = cluster.submitted(raw_to_sequences(lake, raw))
        cost = measure(command, environment, servers=cluster.pids)
        if not published_rows(lake, EXPOSURES):
            raise UserError(f"{setting.name}: no exposures were built")
    return [cost]


def _ratio(costs: dict[str, list[Cost]], setting: _Setting, figure: Callable[[Cost], float]) -> Spread:
    return ratio(*([figure(cost) for cost in costs[name]] for name in (setting.name, setting.reference)))


def _table_row(setting: _Setting, costs: dict[str, list[Cost]]) -> list[str]:
    setting_costs = costs[setting.name]
    return [
        "one user has a tenth" if setting.is_skewed else "generated",
        str(setting.workers),
        str(setting.files),
        seconds(Spread.summarise([cost.cpu_s for cost in setting_costs])),
        times(_ratio(costs, setting, lambda cost: cost.cpu_s)),
        seconds(Spread.summarise([cost.seconds for cost in setting_costs])),
        times(_ratio(costs, setting, lambda cost: cost.seconds)),
        gib(max(cost.peak_bytes for cost in setting_costs)),
        str(len(setting_costs)),
    ]
