"""The section about policies: which channels the model recommends, compared with those that were shown."""

from jobs.reports.charts import bars
from jobs.reports.content import HtmlTable, Picture, Section, TrendFigure
from jobs.reports.day_view import DayView
from jobs.reports.formats import count, share, signed
from jobs.reports.model_runs import find_run
from jobs.reports.svg import Series
from schemas.basis import CONSTANT, IMITATION, VALUE
from schemas.days import day_before
from schemas.tables import CHANNEL_POLICIES, EXPOSURES, channel_policies

_TITLE = "Policies: which channel next"
_MOST_CHANNELS = 10
_MEANING = {
    VALUE: "the one with the highest predicted gain for the user",
    IMITATION: "the one that the log would most probably choose",
    CONSTANT: "the same for everyone: the best one for all users together",
}
_LOOK_AT_SHARES = "Look for one channel that takes all although recommendations are personal: the policy has collapsed."
_NEW_CHANNELS = "Share of exposures in channels that the model does not know"
_LOOK_AT_NEW_CHANNELS = "Look for a rise: the model cannot choose these channels before a full training."


def policies_section(view: DayView) -> Section:
    """The channels' shares in the policies, compared with the exposures of the day and the policies of the day before.

    Needs channel, policy and source of `channel_policies`, channel and the gains of `exposures`.
    """
    if not view.has(CHANNEL_POLICIES):
        return Section("policies", _TITLE, ("This day has no channel policies: it was not scored yet.",))
    users = view.manifests[CHANNEL_POLICIES].rows
    mix = _mean_policy(view, view.day)
    best = dict(view.query(CHANNEL_POLICIES, 'SELECT channel, count(*) FROM "partition" GROUP BY ALL'))
    shown_shares = _shown_channels(view)
    yesterday = view.lake[CHANNEL_POLICIES, view.dataset, day_before(view.day)]
    manifest = yesterday.manifest
    mix_before = _mean_policy(view, yesterday.day) if manifest and manifest.rows else {}
    channels = sorted(mix, key=lambda c: -mix[c])
    new_channels = {name: figures[0] or 0.0 for name, figures in shown_shares.items() if name not in mix}
    most_frequent = max(best.values(), default=0) / users if users else 0.0
    return Section(
        "policies", _TITLE,
        (
            _text(view, users, len(channels), bool(mix_before)), *_basis_text(view),
            *_new_channels_text(view, new_channels),
        ),
        (_shares(channels[:_MOST_CHANNELS], mix, shown_shares, mix_before), _best_channels(best)),
        (*_basis_table(view), _channel_table(view, users, channels, mix, best, shown_shares)),
        (
            TrendFigure("Share of users who get the most frequent advice", "", most_frequent, "share", _LOOK_AT_SHARES),
            TrendFigure(_NEW_CHANNELS, "", sum(new_channels.values()), "share", _LOOK_AT_NEW_CHANNELS),
        ),
    )  # fmt: skip


def _text(view: DayView, users: int, channels: int, can_compare: bool) -> str:
    initial = view.query(
        CHANNEL_POLICIES, f"""SELECT count(*) FROM "partition" WHERE source = '{channel_policies.INITIAL}'"""
    )[0][0]
    text = (
        f"For each of {users:,} users, the model gives the probability with which to use each channel next. "
        f"{initial:,} users have too short a journey: they get the overall policy of the channels."
    )
    if channels > _MOST_CHANNELS:
        text += f" The pictures show the {_MOST_CHANNELS} largest of {channels} channels."
    return text if can_compare else f"{text} The day before has no policies to compare with."


def _new_channels_text(view: DayView, new_channels: dict[str, float]) -> list[str]:
    """The day's exposures in channels that no policy has, and the share from which a new training is advised."""
    if not new_channels:
        return []
    names = sorted(new_channels, key=lambda name: (-new_channels[name], name))
    listed = ", ".join(f"{name} ({share(new_channels[name])})" for name in names[:_MOST_CHANNELS])
    return [
        f"The model does not know {len(names)} of the day's channels, with {share(sum(new_channels.values()))} of the "
        f"exposures: {listed}. These exposures count for the gains alone. From "
        f"{share(view.dataset.quality.new_channels.value)} on, start a full training "
        f"(mtorl_history_{view.dataset.name})."
    ]


def _basis_text(view: DayView) -> list[str]:
    """What the recommended channels are based on, and how many were drawn."""
    basis, explored = view.query(
        CHANNEL_POLICIES, 'SELECT any_value(basis), count(*) FILTER (WHERE explored) FROM "partition"'
    )[0]
    drawn = f" For {explored:,} users the channel was drawn at random, to learn." if explored else ""
    return [f"The recommended channel is {_MEANING[basis]}.{drawn}"] if basis in _MEANING else []


def _basis_table(view: DayView) -> list[HtmlTable]:
    """The value of each basis on validation users, if the log identifies it."""
    run = find_run(view.lake, view.dataset.name, view.manifests[CHANNEL_POLICIES].inputs.get("model", ""))
    if run is None or run.basis is None or not run.basis.minus_constant:
        return []
    rows = tuple(
        (basis, signed(figures["value"]), f"{signed(figures['low'])} to {signed(figures['high'])}")
        for basis, figures in run.basis.minus_constant.items()
    )
    gain = view.dataset.gain_names[0]
    return [
        HtmlTable(
            f"What a recommendation is worth on validation users ({gain} per exposure); decided: {run.basis.basis}",
            ("Recommended by", "Minus the best constant", "95 % interval"), rows, frozenset((1, 2)),
        )
    ]  # fmt: skip


def _shares(
    channels: list[str],
    mix: dict[str, float],
    shown_shares: dict[str, tuple[float | None, ...]],
    mix_before: dict[str, float],
) -> Picture:
    series = [Series("policies", [mix[c] for c in channels])]
    if shown_shares:
        series.append(Series("shown on the day", [shown_shares.get(c, (0.0,))[0] for c in channels]))
    if mix_before:
        series.append(Series("policies the day before", [mix_before.get(c, 0.0) for c in channels]))
    return Picture("Share of each channel", bars("Share of each channel", channels, series, share), _LOOK_AT_SHARES)


def _best_channels(best: dict[str, int]) -> Picture:
    title = "Users for whom the channel is the best"
    channels = sorted(best, key=lambda c: (-best[c], c))[:_MOST_CHANNELS]
    picture = bars(title, channels, [Series("", [best[c] for c in channels])], count)
    return Picture(title, picture, "Look for more than one channel, unless everyone is to get the best constant one.")


def _channel_table(
    view: DayView,
    users: int,
    channels: list[str],
    mix: dict[str, float],
    best: dict[str, int],
    shown_shares: dict[str, tuple[float | None, ...]],
) -> HtmlTable:
    gains = view.dataset.gain_names
    rows = []
    for channel in channels:
        logged = shown_shares.get(channel, (None,) * (1 + len(gains)))
        best_users = best.get(channel, 0)
        rows.append((
            channel, f"{best_users:,}", share(best_users / users if users else 0), share(mix[channel]),
            *("" if value is None else share(value) for value in logged),
        ))  # fmt: skip
    return HtmlTable(
        "Channels",
        ("Channel", "Users it is best for", "Share of users", "Mean probability", "Shown on the day", *gains),
        tuple(rows), frozenset(range(1, 5 + len(gains))), folded=len(channels) > _MOST_CHANNELS,
    )  # fmt: skip


def _mean_policy(view: DayView, day: str) -> dict[str, float]:
    """The mean probability of each channel over the users."""
    return dict(view.query(
        CHANNEL_POLICIES,
        """SELECT entry.key, sum(entry.value) / (SELECT count(*) FROM "partition")
           FROM (SELECT unnest(map_entries(policy)) AS entry FROM "partition") GROUP BY entry.key ORDER BY entry.key""",
        day,
    ))  # fmt: skip


def _shown_channels(view: DayView) -> dict[str, tuple[float | None, ...]]:
    """For each channel: its share of the day's exposures with a known channel, and the rate of each gain in these."""
    if not view.has(EXPOSURES):
        return {}
    gains = ", ".join(f'avg("{g}")' for g in view.dataset.gain_names)
    rows = view.query(
        EXPOSURES,
        f"""SELECT channel, count(*) / sum(count(*)) OVER (), {gains} FROM "partition" WHERE channel IS NOT NULL
            GROUP BY channel ORDER BY channel""",
    )
    return {channel: tuple(figures) for channel, *figures in rows}
