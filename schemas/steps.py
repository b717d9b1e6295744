"""A step: one exposure as the model sees it, with all that was known strictly before it.

The candidate inputs of step t follow from the dataset contract alone:

- a column known `before` its exposure is an input without change (`hour`);
- a column known `with` or `after` its exposure is replaced by the value at the user's latest exposure with a smaller
  time stamp (`last_campaign`): the channel is chosen before the candidate is known;
- counts over the whole history known before the step: `seen_exposures`, `seen_<gain>`, and the same by channel;
- counts and cost of the facts that became known between the previous step and this one, a_{t-1} and r_{t-1} of the
  paper (equation 4): `new_exposures`, `new_<gain>`, `new_cost`, and the counts by channel. Without equal time stamps
  and late conversions these facts are exactly the previous exposure. Exposures with equal time stamps do not see each
  other, and the step after them sees all of them;
- running figures over the same history: `mean_<number>` for each number known `with` or `after` and for the cost, and
  `switches_<category>`, how often a category or the channel differed from the exposure before it. A single value of an
  ad carries little information, but a change of the ad or a lasting high cost carries much;
- gaps: `gap_s` since the previous step, `since_<gain>_s` since the last known gain.

A window has n consecutive steps of a user as lists, oldest first, padded on the left: what a model of channel choices
reads (`window_columns`). The table `sequences` names the steps of each window, and mtorl_model/data/windows/reading.py
gathers their values. They are null for padding (`valid` false), and raw: encoders are applied when windows are read.
"""

from schemas.contract import Column, Known, Role
from schemas.dataset import Dataset

# The number of a user's latest steps that `journeys` remembers: the longest sequence in table 4 of the paper.
MEMORY_STEPS = 40
# The positions of a window: the paper's n.
DEFAULT_STEPS = 20
# Exposures of unknown channel are counted under this name. It is never a label and never recommended.
UNKNOWN_CHANNEL = ""
# Point-in-time arithmetic packs a user's number and a time in milliseconds into one 64-bit integer: the time takes
# this many bits, which reach to the year 2248.
TIME_BITS = 43
# The latest time of an exposure, in milliseconds since 1970 UTC: the end of its day has to fit into TIME_BITS as well.
LATEST_EXPOSED_AT_MS = 2**TIME_BITS - 1 - 86_400_000

# Running sums in `journeys` are integers in millionths, so their order does not matter. Larger numbers are clipped.
LARGEST_SUMMAND = 1e8


def last_column(name: str) -> str:
    """The input with the value at the latest known exposure."""
    return f"last_{name}"


def mean_column(name: str) -> str:
    """The input with the mean over the known exposures."""
    return f"mean_{name}"


def switches_column(name: str) -> str:
    """The input that counts how often the value changed between known exposures."""
    return f"switches_{name}"


def known_after_columns(dataset: Dataset) -> tuple[Column, ...]:
    """The columns whose values are inputs of later steps only.

    Channel, cost, and the dataset's columns known with the candidate or after the exposure, in the contract's order.
    """
    return (
        Column("channel", "string", "channel", Known.AFTER, nullable=True, role=Role.CATEGORICAL),
        Column("cost", "double", "cost", Known.AFTER, role=Role.NUMERIC),
        *dataset.features(Known.WITH, Known.AFTER),
    )


def _known_after_with_role(dataset: Dataset, role: Role) -> tuple[Column, ...]:
    return tuple(c for c in known_after_columns(dataset) if c.role is role)


def running_means(dataset: Dataset) -> tuple[str, ...]:
    """The numbers that have a running mean."""
    return tuple(c.name for c in _known_after_with_role(dataset, Role.NUMERIC))


def counted_switches(dataset: Dataset) -> tuple[str, ...]:
    """The categories whose changes are counted."""
    return tuple(c.name for c in _known_after_with_role(dataset, Role.CATEGORICAL))


def outcome_columns(dataset: Dataset) -> tuple[Column, ...]:
    """The labels of a step: the full outcome of its exposure."""
    return (
        Column("exposure_id", "bigint", "the exposure", Known.NEVER),
        Column("exposed_at_ms", "bigint", "when, ms UTC", Known.NEVER),
        Column("channel", "string", "channel shown; null if unknown", Known.NEVER, nullable=True),
        *(Column(g, "int", f"full outcome: {dataset.column(g).doc}", Known.NEVER) for g in dataset.gain_names),
        # With these times, training can remove the gains that were not yet known at the end of a day.
        *(
            Column(
                time, "bigint", f"when {gain} became known, ms UTC; null if it never did", Known.NEVER, nullable=True
            )
            for gain, time in dataset.late_gain_times.items()
        ),
        Column("cost", "double", "cost of the exposure", Known.NEVER),
    )


def count_inputs(dataset: Dataset) -> tuple[Column, ...]:
    """The counts known strictly before the step, over all channels: the history of actions and rewards."""
    return (
        Column("seen_exposures", "int", "exposures so far"),
        *(Column(f"seen_{g}", "int", f"{g} known so far") for g in dataset.gain_names),
        Column("new_exposures", "int", "exposures since the previous step's time"),
        *(Column(f"new_{g}", "int", f"{g} that became known since the previous step") for g in dataset.gain_names),
        Column("new_cost", "double", "cost that became known since the previous step"),
    )


def feature_inputs(dataset: Dataset) -> tuple[Column, ...]:
    """The candidates of the feature selection that have one value for each step; the profile is not among them."""
    return (
        *dataset.features(Known.BEFORE),
        *(
            Column(last_column(c.name), c.dtype, f"{c.doc}, of the latest known exposure", nullable=True, role=c.role)
            for c in known_after_columns(dataset)
        ),
        *(
            Column(mean_column(c.name), "double", f"{c.doc}, mean over the known exposures", nullable=True, role=c.role)
            for c in _known_after_with_role(dataset, Role.NUMERIC)
        ),
        *(
            Column(switches_column(c.name), "int", f"known exposures at which this changed: {c.doc}", role=Role.NUMERIC)
            for c in _known_after_with_role(dataset, Role.CATEGORICAL)
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
    """The candidates that describe the user. A journey or a window has the value of the day's last exposure."""
    return dataset.features(Known.BEFORE, static=True)


def session_inputs(dataset: Dataset) -> tuple[Column, ...]:
    """The session of an exposure and its history, for methods on candidates; not among the inputs of a channel choice.

    position is the rank in the session by (exposed_at_ms, exposure_id). The counts use earlier time stamps only.
    """
    return (
        Column("session_id", "bigint", "exposure_id of the first exposure of the session"),
        Column("position", "int", "place in the session, from 0"),
        Column("session_age_s", "double", "seconds since the first exposure of the session", role=Role.NUMERIC),
        Column("session_exposures", "int", "exposures of the session so far", role=Role.NUMERIC),
        *(
            Column(f"session_{g}", "int", f"{g} that became known since the session began", role=Role.NUMERIC)
            for g in dataset.gain_names
        ),
    )


def session_type(dataset: Dataset) -> str:
    """The type of a user's latest session in `journeys`: its exposures, and the counts that its first one has seen."""
    counts = "".join(f", `seen_{name}`: int" for name in ("exposures", *dataset.gain_names))
    return f"struct<session_id: bigint, exposures: int, began_at_ms: bigint{counts}, column_value: string>"


def channel_counts_type(dataset: Dataset) -> str:
    """The type of counts by channel: only channels with a count, ordered by name."""
    gains = "".join(f", `{g}`: int" for g in dataset.gain_names)
    return f"array<struct<channel: string, exposures: int{gains}>>"


def input_columns(dataset: Dataset) -> tuple[Column, ...]:
    """All inputs of a step, without the profile."""
    by_channel = channel_counts_type(dataset)
    return (
        *feature_inputs(dataset),
        *count_inputs(dataset),
        Column("seen_by_channel", by_channel, "the seen_ counts, by channel"),
        # The model reads only the exposures of this column; a journey has all of its counts.
        Column("new_by_channel", by_channel, "the new_ counts, by channel"),
    )


def derived_inputs(dataset: Dataset) -> tuple[Column, ...]:
    """The inputs of a step that `exposures` does not have itself."""
    context = {c.name for c in dataset.features(Known.BEFORE)}
    return tuple(c for c in input_columns(dataset) if c.name not in context)


def step_type(dataset: Dataset) -> str:
    """The struct type of a remembered step: its outcome and its inputs."""
    columns = (*outcome_columns(dataset), *input_columns(dataset))
    return "struct<" + ", ".join(f"`{c.name}`: {c.dtype}" for c in columns) + ">"


def next_step_type(dataset: Dataset) -> str:
    """The struct type of a step at the end of the day: only inputs, because nothing has been shown yet."""
    return "struct<" + ", ".join(f"`{c.name}`: {c.dtype}" for c in input_columns(dataset)) + ">"


def counted_by_channel(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """The counts by channel: exposures and gains over the history (`seen`), exposures since the last step (`new`).

    They are the action a_{t-1}. The reward r_{t-1} is computed from the sums over channels (equation 18).
    """
    return {"seen": ("exposures", *dataset.gain_names), "new": ("exposures",)}


def per_channel_columns(dataset: Dataset) -> tuple[Column, ...]:
    """The columns of the counts by channel, each of shape [n][channels of the spec]."""
    return tuple(
        Column(f"{period}_{fact}_by_channel", "array<array<int>>", f"{period}_{fact}, per channel of the spec")
        for period, facts in counted_by_channel(dataset).items()
        for fact in facts
    )


def window_columns(dataset: Dataset) -> tuple[Column, ...]:
    """The columns of a padded window. A model reads the features among them that its feature spec keeps."""
    per_step = (*outcome_columns(dataset), *feature_inputs(dataset), *count_inputs(dataset))
    return (
        dataset.user_id.column,
        Column("window", "int", "number of the window among the user's of this day, from 0"),
        Column("split", "string", "train, validation or test, by user"),
        Column("valid", "array<boolean>", "true for a real step, false for padding"),
        Column("is_label", "array<boolean>", "true if the step has a loss"),
        *profile_inputs(dataset),
        *(Column(c.name, f"array<{c.dtype}>", c.doc, c.known, True, c.role) for c in per_step),
        *per_channel_columns(dataset),
    )
