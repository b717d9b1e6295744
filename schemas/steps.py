"""A step: one exposure as the model sees it, with all that was known strictly before it.

The candidate inputs of step t follow from the dataset contract alone:

- a column known `before` its exposure enters as it is (`hour`);
- a column known `after` enters as the value of the user's latest exposure with a smaller time stamp
  (`last_campaign`);
- counts over the whole history known by then: `seen_exposures`, `seen_<gain>`, and per channel;
- what became known between the previous step and this one, the paper's a_{t-1} and r_{t-1} (equation 4):
  `new_exposures`, `new_<gain>`, `new_cost`, and per channel. With no equal time stamps and no late
  conversions that is exactly the previous exposure; exposures with one time stamp do not see each other,
  and the step after them sees them all;
- running figures over the same history: `mean_<number>` of each number known `after` (and of the cost), and
  `switches_<category>`: how often a category or the channel differed from the exposure before it. What an ad
  brings says little alone; that it changes, or stays dear, says much;
- gaps: `gap_s` since the previous step, `since_<gain>_s` since the last known gain.
"""

from schemas.contract import Column, Known, Role
from schemas.dataset import Dataset

# How many of a user's latest steps `journeys` remembers: the longest sequence of the paper's table 4.
MEMORY_STEPS = 40
# The channel under which exposures of unknown channel are counted; never a label, never recommended.
UNKNOWN_CHANNEL = ""
# Point-in-time arithmetic packs a user's number and a time in milliseconds into one 64-bit integer: the time takes
# this many bits, which reach to the year 2248.
TIME_BITS = 43
# The latest time of an exposure, in milliseconds since 1970 UTC: the end of its day has to fit into TIME_BITS as well.
LATEST_EXPOSED_AT_MS = 2**TIME_BITS - 1 - 86_400_000

# The journeys' running sums are whole millionths, exact in any order; a number beyond this counts as this.
LARGEST_SUMMAND = 1e8


def last_column(name: str) -> str:
    return f"last_{name}"


def mean_column(name: str) -> str:
    return f"mean_{name}"


def switches_column(name: str) -> str:
    return f"switches_{name}"


def known_after_columns(dataset: Dataset) -> tuple[Column, ...]:
    """What an exposure brings with it, known after it: the channel, the cost, and the dataset's `after` columns."""
    return (
        Column("channel", "string", "channel", Known.AFTER, nullable=True, role=Role.CATEGORICAL),
        Column("cost", "double", "cost", Known.AFTER, role=Role.NUMERIC),
        *dataset.features(Known.AFTER),
    )


def _shown(dataset: Dataset, role: Role) -> tuple[Column, ...]:
    return tuple(c for c in known_after_columns(dataset) if c.role is role)


def running_means(dataset: Dataset) -> tuple[str, ...]:
    """The numbers that have a running mean."""
    return tuple(c.name for c in _shown(dataset, Role.NUMERIC))


def counted_switches(dataset: Dataset) -> tuple[str, ...]:
    """The categories whose changes are counted."""
    return tuple(c.name for c in _shown(dataset, Role.CATEGORICAL))


def outcome_columns(dataset: Dataset) -> tuple[Column, ...]:
    """What step t is labelled with: the full outcome of its exposure."""
    return (
        Column("exposure_id", "bigint", "the exposure", Known.NEVER),
        Column("exposed_at_ms", "bigint", "when, ms UTC", Known.NEVER),
        Column("channel", "string", "channel shown; null where unknown", Known.NEVER, nullable=True),
        *(Column(g, "int", f"full outcome: {dataset.column(g).doc}", Known.NEVER) for g in dataset.gain_names),
        # By it, training takes back what was not known yet at the end of a day.
        *(
            Column(at, "bigint", f"when {g} became known, ms UTC; null where it never did", Known.NEVER, nullable=True)
            for g, at in dataset.late_gain_times.items()
        ),
        Column("cost", "double", "cost of the exposure", Known.NEVER),
    )


def count_inputs(dataset: Dataset) -> tuple[Column, ...]:
    """Scalar counts known strictly before the step; they carry the action and reward history."""
    return (
        Column("seen_exposures", "int", "exposures so far"),
        *(Column(f"seen_{g}", "int", f"{g} known so far") for g in dataset.gain_names),
        Column("new_exposures", "int", "exposures since the previous step's time"),
        *(Column(f"new_{g}", "int", f"{g} that became known since the previous step") for g in dataset.gain_names),
        Column("new_cost", "double", "cost that became known since the previous step"),
    )


def feature_inputs(dataset: Dataset) -> tuple[Column, ...]:
    """The candidates of the feature selection, one value a step, by name (profile columns left out)."""
    return (
        *dataset.features(Known.BEFORE),
        *(
            Column(last_column(c.name), c.dtype, f"{c.doc}, of the latest known exposure", nullable=True, role=c.role)
            for c in known_after_columns(dataset)
        ),
        *(
            Column(mean_column(c.name), "double", f"{c.doc}, mean over the known exposures", nullable=True, role=c.role)
            for c in _shown(dataset, Role.NUMERIC)
        ),
        *(
            Column(switches_column(c.name), "int", f"known exposures at which this changed: {c.doc}", role=Role.NUMERIC)
            for c in _shown(dataset, Role.CATEGORICAL)
        ),
        Column("gap_s", "double", "seconds since the previous step; 0 at a user's first", role=Role.NUMERIC),
        *(
            Column(
                f"since_{g}_s",
                "double",
                f"seconds since the last known {g}; null before the first",
                nullable=True,
                role=Role.NUMERIC,
            )
            for g in dataset.gain_names
        ),
    )


def profile_inputs(dataset: Dataset) -> tuple[Column, ...]:
    """The candidates that describe the user, one value a journey or window: that of its day's last exposure."""
    return dataset.features(Known.BEFORE, static=True)


def channel_counts_type(dataset: Dataset) -> str:
    """Counts by channel, only channels with a count, ordered by name."""
    gains = "".join(f", `{g}`: int" for g in dataset.gain_names)
    return f"array<struct<channel: string, exposures: int{gains}>>"


def input_columns(dataset: Dataset) -> tuple[Column, ...]:
    """All inputs of a step, profile left out."""
    by_channel = channel_counts_type(dataset)
    return (
        *feature_inputs(dataset),
        *count_inputs(dataset),
        Column("seen_by_channel", by_channel, "the seen_ counts, by channel"),
        # Of it the model reads the exposures alone; a journey carries all that is counted.
        Column("new_by_channel", by_channel, "the new_ counts, by channel"),
    )


def step_type(dataset: Dataset) -> str:
    """A remembered step: outcome and inputs, as a struct type."""
    columns = (*outcome_columns(dataset), *input_columns(dataset))
    return "struct<" + ", ".join(f"`{c.name}`: {c.dtype}" for c in columns) + ">"


def next_step_type(dataset: Dataset) -> str:
    """The inputs of a step at the end of the day, before anything is shown."""
    return "struct<" + ", ".join(f"`{c.name}`: {c.dtype}" for c in input_columns(dataset)) + ">"
