"""Raw log to sequences, at several sizes, beside Polars and the notebooks' loop."""

from pathlib import Path

from benchmarks import pipeline
from benchmarks.measure import Cost, Spread, alternating, measured, ratio, together
from benchmarks.pipeline import job, log_file, module
from benchmarks.section import Section, gib, seconds, this_machine, times
from lakehouse.lake import Lake
from schemas.tables import SEQUENCES

_PANDAS_ROWS = 4_000_000  # beyond, the loop's one number is not worth the hour
_ONCE_ROWS = 8_000_000  # from here on one round: it takes a quarter of an hour
TEXT = """\
Each size is a generated log in the Criteo layout, one text file of 30 days, 20 rows a user. *Raw to sequences* is what
the history run does, audits and the fit of the feature spec apart: `build_exposures` and `build_sequences`, each in a
Spark session of its own whose start is counted, on 2 cores with 4 GiB for the driver's heap. *Raw to journeys* is
`build_exposures` and `build_journeys`: of all tables, `journeys` is the one that holds what Polars makes, a row a user.
Polars reads all columns as numbers, groups users in order of time, takes those with at least 10 exposures and the last
20 of each as arrays, splits by a hash of the user and writes Parquet. It does not refuse broken rows, look for
duplicates, tell days apart, fingerprint what it read and wrote, or compute for each step what was known before it;
its output is {polars_windows} windows, ours {our_windows} (every exposure after a user's first is a label once) with
counts by channel in each step. Runs take turns; a ratio is taken within a round, then the median [smallest, largest].
The pandas line is the per-user filter loop of the published notebooks, timed on {timed} users and extrapolated to all;
its ratio is to Polars too, and beyond 4 million rows it is left out. From 8 million rows on there is one round, so no
spread. The log is text that can be cut: the one gzip file that Criteo publishes is read by one core, so unpack it.
Memory is the largest sum over all processes (a shared page counts once).

What lies between the two, beside what Polars leaves out: an exposure stands in several windows (its own, and as context
in later ones), each step with dozens of inputs, so `sequences` have many times the values that Polars writes. Profiled
once by hand (4 million rows, two AMD EPYC cores, November 2026): of the processor time of `build_sequences` writing
them is two fifths, computing them a fifth, and nearly a third is Spark's own: rows read, sorted by user and handed to
Python. In `build_exposures` more than a quarter is the rows' way between Java and Python, there and back as they are
parsed and there again as they are written; an eighth are the contract's expressions and the hashes of every value, by
which a corrected row is found, a seventh shuffle and sort, a tenth what is kept for a second look, a tenth the writing.

The limits set for raw log to sequences are 5 x Polars at 4 million rows and 4 x at 16 million. Measured: {reached}.
What was done about it, with its effect where that was measured by itself: the log is parsed once a session, its plain
lines by Arrow in the workers, thousands in one look (1.7 to 1.0 s of processor time a million rows); copies of an
exposure are found by the workers that write the rows, so that rows are sorted once and none goes back to Java; nested
tables are written where they are computed, by pyarrow (Java's Parquet writer took several times as long), their windows
cut in order of day, so that none is copied on its way to a file, numbers without dictionaries and without statistics of
lists (writing: 24 to 10 s a million rows); long plans are compiled in pieces, and what is kept for a moment is not
compressed (a sixth of the processor time of `build_exposures`). Tried without gain: Java's parallel collector, its last
compiler sooner, smaller batches of what is kept, other sizes of what a worker computes at once, no check of Arrow's
bounds, a lighter compression of the sequences (it is a fifth of writing them; the rest is lists taken apart). Not done:
exposures lie sorted, in files cut by user, so workers could read them without Spark, which would save its third of
`build_sequences`, at the price of a second way to bring a user's rows together, of our own making."""


def measure(kept: Path, command: str, sizes: list[int], repeats: int) -> Section:
    spec = pipeline.fitted_spec(kept)
    rows = []
    curves: dict[str, list[list[float]]] = {name: [] for name in ("raw to sequences", "raw to journeys", "Polars")}
    windows = polars_windows = timed = 0
    reached = []
    for size in sizes:
        rounds = repeats if size < _ONCE_ROWS else 1
        raw = pipeline.generated_log(kept, size)
        log, count = log_file(raw), pipeline.rows_of(log_file(raw))
        print(f"{count:,} rows, {log.stat().st_size / 2**20:,.0f} MiB of text", flush=True)
        stages: dict[str, list[Cost]] = {"build_exposures": [], "build_sequences": [], "build_journeys": []}

        def ours(_: int, raw: Path = raw, stages: dict[str, list[Cost]] = stages) -> list[Cost]:
            nonlocal windows
            with pipeline.scratch_lake(kept) as lake:
                costs = run_stages(lake, raw, spec)
                windows = pipeline.published_rows(lake, SEQUENCES)
            for name, cost in costs.items():
                stages[name].append(cost)
            return [costs["build_exposures"], costs["build_sequences"]]

        def peer(_: int, log: Path = log) -> list[Cost]:
            return [_polars(kept, log)]

        found = alternating({"raw to sequences": ours, "Polars": peer}, rounds)
        found["raw to journeys"] = [
            together(pair) for pair in zip(stages["build_exposures"], stages["build_journeys"], strict=True)
        ]
        polars = [cost.seconds for cost in found["Polars"]]
        behind = ratio([cost.seconds for cost in found["raw to sequences"]], polars)
        reached.append(f"{behind.median:.0f} x at {count:,} rows")
        polars_windows = int(found["Polars"][0].figures["users"])
        for name in ("raw to sequences", "raw to journeys", "Polars"):
            costs = found[name]
            spent = Spread.of([cost.seconds for cost in costs])
            memory = max(cost.peak_bytes for cost in costs)
            rows.append([
                f"{count:,}", name, seconds(spent), seconds(Spread.of([cost.cpu_s for cost in costs])),
                "1" if name == "Polars" else times(ratio([cost.seconds for cost in costs], polars)),
                gib(memory), str(rounds),
            ])  # fmt: skip
            curves[name].append([count, spent.median, memory])
        for name, costs in stages.items():
            rows.append([
                f"{count:,}", f"of that `{name}`", seconds(Spread.of([cost.seconds for cost in costs])),
                seconds(Spread.of([cost.cpu_s for cost in costs])),
                times(ratio([cost.seconds for cost in costs], polars)), gib(max(c.peak_bytes for c in costs)),
                str(rounds),
            ])  # fmt: skip
        if size <= _PANDAS_ROWS:
            pandas = measured(module("benchmarks.pandas_peer", "--log", log))
            timed, spent_s = pandas.figures["timed_users"], pandas.figures["seconds"]
            print(f"  pandas, extrapolated: {spent_s:,.0f} s", flush=True)
            rows.append([
                f"{count:,}", "pandas loop, extrapolated", f"{spent_s:,.0f} s", "",
                # Timed once: what spread there is would be Polars'.
                f"{ratio([spent_s] * rounds, polars).median:.2f}", gib(pandas.peak_bytes), "1",
            ])  # fmt: skip
    text = TEXT.format(
        our_windows=f"{windows:,}", polars_windows=f"{polars_windows:,}", timed=timed, reached=", ".join(reached)
    )
    headings = ("rows", "what", "time", "processor time", "times Polars", "memory", "repeats")
    return Section("Raw log to sequences", text, command, this_machine(), headings, rows, curves)


def run_stages(lake: Lake, raw: Path, spec: Path) -> dict[str, Cost]:
    """The history run's Spark jobs, by name."""
    return {
        "build_exposures": measured(job("build_exposures", lake, "--raw", raw)),
        "build_sequences": measured(job("build_sequences", lake, "--spec", spec)),
        "build_journeys": measured(job("build_journeys", lake)),
    }


def _polars(kept: Path, log: Path) -> Cost:
    with pipeline.scratch_lake(kept) as folder:
        return measured(module("benchmarks.polars_peer", "--log", log, "--out", folder.root))
