"""Sections about the rows that came in: how many were kept, what was refused and why, and what the audits said."""

from jobs.quality.audit_results import FAILED, HOLDS
from jobs.reports.content import Cell, Grid, Headline, Picture, Section
from jobs.reports.day import WORDS, Day
from jobs.reports.svg import Series, bars, columns, count, share
from jobs.reports.words import short_days
from schemas.days import UNDATED, day_plus, days_between
from schemas.tables import EXPOSURES, JOURNEYS, QUARANTINE
from schemas.tables.registry import TABLES

TRAILING_DAYS = 14
_MOST_REASONS = 8
_MOST_GROUPS = 30
_EXAMPLES = 2
_LONGEST = 200  # letters of a refused row that are shown


def rows_section(day: Day) -> Section:
    """Rows in, kept, duplicates, quarantined, from the manifests of the day and of the days before it."""
    found = day.manifests.get(EXPOSURES)
    if found is None:
        return Section("rows", "Rows", ("No exposures of this day were published: nothing came in, or it was stopped "
                                        "while they were read.",))  # fmt: skip
    kept, counts = found.rows, found.counts
    rows_in, duplicates, refused = counts["rows_in"], counts["duplicates"], counts["quarantined"]
    adds_up = "" if rows_in == kept + duplicates + refused else " These do not add up: rows were lost or counted twice."
    first = max(day_plus(day.ds, 1 - TRAILING_DAYS), day.lake.days(EXPOSURES, day.dataset)[0])
    days = days_between(first, day.ds)  # a day that was never published is a gap
    of_days = [day.lake[EXPOSURES, day.dataset, d].manifest for d in days]
    stacks = [Series("kept", [m.rows if m else None for m in of_days])] + [
        Series(name, [m.counts.get(name, 0) if m else None for m in of_days]) for name in ("duplicates", "quarantined")
    ]
    look = "a day far below or above its neighbours: the feed broke, or doubled"
    return Section(
        "rows", "Rows",
        (f"Of {rows_in:,} rows that the log has for this day, {kept:,} became ad exposures, {duplicates:,} were "
         f"duplicates of another row, and {refused:,} ({_share(refused, rows_in)}) were refused.{adds_up}",),
        (Picture(f"Rows a day, the last {len(days)} days", columns("Rows a day", short_days(days), stacks, count),
                 f"Look for {look}."),),
        headlines=(
            Headline("Rows in", "", rows_in, "count", f"Look for {look}.", True),
            Headline("Rows refused or duplicate, share", "quarantined", refused / rows_in if rows_in else 0, "share",
                     "Look for a rise: somebody has changed the feed."),
            Headline("Rows refused or duplicate, share", "duplicates", duplicates / rows_in if rows_in else 0, "share",
                     "Look for a rise: somebody has changed the feed."),
        ),
    )  # fmt: skip


def quarantine_section(day: Day) -> Section:
    """The refused rows of the day by reason and source file, with examples; and those of no day."""
    text: list[str | Cell] = []
    pictures, grids = [], []
    refused = day.manifests.get(QUARANTINE)
    if refused is None or not refused.rows:
        text.append("No row of this day was refused.")
    else:
        groups = _groups(day, day.ds)
        top = day.query(
            QUARANTINE,
            f"""SELECT reason, count(*) AS refused FROM "partition" GROUP BY ALL
                ORDER BY refused DESC, reason LIMIT {_MOST_REASONS}""",
        )
        text.append(f"{refused.rows:,} rows of this day were refused. They are kept as they stood in the log, with "
                    "the reason; docs/quality.md says how to repair and replay just these.")  # fmt: skip
        pictures.append(
            Picture("Refused rows by reason", bars("Refused rows by reason", [r for r, _ in top],
                    [Series("", [n for _, n in top])], count),
                    "Look for one reason that stands for nearly all: one repair mends it."))  # fmt: skip
        grids.append(_refused_grid("Refused rows by reason and source file", groups))
    undated = day.lake[QUARANTINE, day.dataset, UNDATED].manifest
    if undated and undated.rows:
        text.append(f"{undated.rows:,} rows of the whole log have no readable time stamp, or one of no day of the log: "
                    "they belong to no day's report but stand in every one.")  # fmt: skip
        grids.append(_refused_grid("Refused rows of no day", _groups(day, UNDATED)))
    return Section("quarantine", "Refused rows", tuple(text), tuple(pictures), tuple(grids))


def _groups(day: Day, ds: str) -> list[tuple[str, str, int, list[str]]]:
    """(reason, source file, rows, examples), the largest first."""
    return day.query(
        QUARANTINE,
        f"""SELECT reason, source_file, count(*) AS refused, min(raw[:{_LONGEST + 1}], {_EXAMPLES}) FROM "partition"
            GROUP BY ALL ORDER BY refused DESC, reason, source_file LIMIT {_MOST_GROUPS}""",
        ds,
    )


def _refused_grid(title: str, groups: list[tuple[str, str, int, list[str]]]) -> Grid:
    return Grid(title, ("Reason", "Source file", "Rows", "Examples, as they stood there"), tuple(
        (reason, file, f"{rows:,}", Cell("\n".join(raw if len(raw) <= _LONGEST else raw[:_LONGEST] + "…"
                                                   for raw in examples or ()), code=True))
        for reason, file, rows, examples in groups), frozenset({2}))  # fmt: skip


def audits_section(day: Day) -> Section:
    """A line a table: rows, and how many rules hold."""
    rows: list[tuple[str | Cell, ...]] = []
    for table in TABLES:
        audit, manifest = day.audits.get(table), day.manifests.get(table)
        name = Cell(table, small=WORDS[table])
        if manifest is None:
            rows.append((name, "", "not there", ""))
            continue
        if audit is None or audit.fingerprint != manifest.fingerprint:
            rows.append((name, f"{manifest.rows:,}", "not audited", ""))
            continue
        hold = sum(o.status == HOLDS for o in audit.outcomes)
        failed = sum(o.status == FAILED for o in audit.outcomes)
        said = f"{hold} hold" + (f", {failed} failed" if failed else "")
        rows.append((name, f"{manifest.rows:,}", day.audit_link(table, audit.verdict, audit.verdict), said))
    index = day.lake.docs(day.dataset) / "index.html"
    where: tuple[Cell, ...] = ()
    if index.is_file():
        where = (Cell("All audits of all days (data docs)", f"{day.docs}/index.html"),)
    return Section(
        "audits", "Audits",
        ("Every table is checked against its rules before anybody builds on it. A critical failure stops the day, a "
         "warning is only reported; the link leads to every rule, with examples.", *where),
        grids=(Grid("Tables of the day", ("Table", "Rows", "Audit", "Rules"), tuple(rows), frozenset({1})),),
    )  # fmt: skip


def journeys_section(day: Day) -> Section:
    """How long the users' journeys are. Needs of journeys: next_step.seen_exposures."""
    found = day.manifests.get(JOURNEYS)
    if found is None:
        return Section("journeys", "Journeys", ("No journeys of this day: the run has not come so far, or was stopped "
                                                "before.",))  # fmt: skip
    today = _lengths(day, day.ds)
    labels = [_bucket(k) for k in range(max(today, default=0) + 1)]
    series = [Series("", [today.get(k, 0) for k in range(len(labels))])]
    users = sum(today.values())
    short = today.get(0, 0)
    before = day.lake[JOURNEYS, day.dataset, day_plus(day.ds, -1)].manifest
    new = f" {found.rows - before.rows:,} of them came in today." if before else ""
    return Section(
        "journeys", "Journeys",
        (f"A journey is all that one user was ever shown, in order of time, up to the end of the day. There are "
         f"{users:,} users.{new} {short:,} ({_share(short, users)}) have seen a single exposure, "
         "so nothing can be learned from them yet.",),
        (Picture("Users by number of exposures so far",
                 columns("Users by number of exposures so far", labels, series, count),
                 "Look for a slope to the right; a sudden pile at 1 means that user ids have changed."),),
        headlines=(Headline("Users with a journey", "", users, "count",
                            "Look for a steady rise: users only come, none is forgotten.", True),),
    )  # fmt: skip


def _lengths(day: Day, ds: str) -> dict[int, int]:
    """Users by bucket: 1, 2, 3 to 4, 5 to 8, ... exposures."""
    return dict(day.query(
        JOURNEYS,
        """SELECT CAST(ceil(log2(next_step.seen_exposures)) AS int) AS bucket, count(*) FROM "partition"
           WHERE next_step.seen_exposures > 0 GROUP BY ALL""",
        ds,
    ))  # fmt: skip


def _bucket(k: int) -> str:
    first, last = (2 ** (k - 1) + 1 if k else 1), 2**k
    return str(last) if first >= last else f"{first}-{last}"


def _share(part: int, whole: int) -> str:
    return share(part / whole) if whole else "0 %"
