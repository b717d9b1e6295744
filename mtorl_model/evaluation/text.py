"""metrics.json in words: a short table for the terminal."""

from collections.abc import Mapping
from typing import Any


def as_text(metrics: Mapping[str, Any]) -> str:
    """The headline figures as a short table, each with its interval, beside the baselines'.

    Where the channel cannot be predicted it has no figures here: an F1 would only say how evenly channels are named.
    """
    channel, compared, baselines = metrics.get("channel"), metrics["model_minus_baseline"], metrics["baselines"]
    lines = [
        f"{metrics['model_version']} on {metrics['users']} unseen users, {metrics['labels']} labels"
        f" ({metrics['users_left_out']} users left out; intervals: {metrics['interval']})",
    ]
    if channel is None:
        lines.append("channel      not predicted by this method")
    elif channel["predictable"]:
        lines.append(
            f"channel      macro-F1 {with_interval(channel, 'f1_macro')}  accuracy {with_interval(channel, 'accuracy')}"
        )
        lines += [
            f"             {verdict(found['f1_macro'])} {name.replace('_', ' ')},"
            f" {baselines['channel'][name]['f1_macro']:.3f}"
            for name, found in compared["channel"].items()
        ]
    else:
        lines.append("channel      cannot be predicted here: no better than the channels' own shares")
    for gain, found in metrics["reward"].items():
        lines.append(
            f"{gain:<12} AUC {with_interval(found, 'auc')}  log loss {found['logloss']:.3f} (base"
            f" {found['base_logloss']:.3f})  rate {found['rate']:.3f}, top 37.5 % {found['rate_top_37.5pct']:.3f}"
        )
        lines += [
            f"             {verdict(other['auc'])} {name.replace('_', ' ')}, AUC"
            f" {in_brackets({**other['auc'], 'value': baselines['reward'][gain][name]['auc'], 'low': None})}"
            for name, other in compared["reward"][gain].items()
        ]
    policy = metrics["policy"]
    if policy["identified"]:
        found = policy["deterministic"]
        lines += [
            f"policy       recommended channel {in_brackets(found['dr'])} (doubly robust)",
            f"             {verdict(found['minus_logging'])} the log, {in_brackets(policy['logging'])}",
            f"             {verdict(found['minus_best_fixed'])} always {policy['best_fixed_channel']}",
        ]
    else:
        lines.append(f"policy       value not identified: {policy['why']}")
    return "\n".join([*lines, *(f"note         {note}" for note in metrics["notes"])])


def with_interval(block: Mapping[str, Any], name: str) -> str:
    """A figure of a block that has `intervals`, as metrics.as_json makes it."""
    low, high = block["intervals"][name] or (None, None)
    return in_brackets({"value": block[name], "low": low, "high": high})


def in_brackets(found: Mapping[str, Any]) -> str:
    """An estimate (value, low, high) as ".750 [.740, .760]"; "-" where there is none."""
    if found["value"] is None:
        return "-"
    bounds = "" if found["low"] is None else f" [{found['low']:.3f}, {found['high']:.3f}]"
    return f"{found['value']:.3f}{bounds}"


def verdict(difference: Mapping[str, Any]) -> str:
    """In words: better, worse, or no difference to be seen; with the difference and its interval."""
    value, low, high = (difference[k] for k in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return "cannot be compared with"
    word = "beats" if low > 0 else "falls short of" if high < 0 else "cannot be told from"
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]: {word}"
