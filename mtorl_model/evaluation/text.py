"""metrics.json as a short table for the terminal."""

from collections.abc import Mapping
from typing import Any


def as_text(metrics: Mapping[str, Any]) -> str:
    """The headline figures with their intervals, and the comparison with each baseline.

    A channel that cannot be predicted has no figures here: its F1 would only measure how evenly the channels are named.
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
            f"             {verdict(differences['f1_macro'])} {name.replace('_', ' ')},"
            f" {baselines['channel'][name]['f1_macro']:.3f}"
            for name, differences in compared["channel"].items()
        ]
    else:
        lines.append("channel      cannot be predicted: no better than the channels' shares")
    for gain, figures in metrics["reward"].items():
        lines.append(
            f"{gain:<12} AUC {with_interval(figures, 'auc')}  log loss {figures['logloss']:.3f} (base"
            f" {figures['base_logloss']:.3f})  rate {figures['rate']:.3f}, top 37.5 % {figures['rate_top_37.5pct']:.3f}"
        )
        if "s_logloss" in figures:
            lines.append(f"             log loss, mean over sessions {with_interval(figures, 's_logloss')}")
        lines += [
            f"             {verdict(differences['auc'])} {name.replace('_', ' ')}, AUC"
            f" {in_brackets({**differences['auc'], 'value': baselines['reward'][gain][name]['auc'], 'low': None})}"
            for name, differences in compared["reward"][gain].items()
        ]
    if ranking := metrics.get("ranking"):
        lines.append(
            f"ranking      MTF-GAUC {in_brackets(ranking['mtf_gauc'])}, {ranking['users']} users with both labels"
        )
        lines += [
            f"             {verdict(block['model_minus_it'])} {name}, {block['value']:.3f}"
            for name, block in ranking["baselines"].items()
        ]
        lines += [f"             {ranking['advice']}"] if ranking["advice"] else []
        lines.append(f"             {_value_of_ranking(ranking['value'])}")
    policy = metrics["policy"]
    if policy["identified"]:
        estimates = policy["deterministic"]
        lines += [
            f"policy       recommended by {policy['basis']} {in_brackets(estimates['dr'])} (doubly robust)",
            f"             {verdict(estimates['minus_logging'])} the log, {in_brackets(policy['logging'])}",
            f"             {verdict(estimates['minus_best_fixed'])} always {policy['best_fixed_channel']}",
            *(
                f"             by {basis} it would be {in_brackets(estimates_of_basis['dr'])}"
                for basis, estimates_of_basis in policy["bases"].items()
                if basis != policy["basis"]
            ),
        ]
    else:
        lines.append(f"policy       value not identified: {policy['why']}")
    return "\n".join([*lines, *(f"note         {note}" for note in metrics["notes"])])


def _value_of_ranking(value: Mapping[str, Any]) -> str:
    if not value["identified"]:
        return f"value not identified: {value['why']}"
    return (
        f"NCIS {verdict(value['minus_explored'])} the explored actions in reward ({value['effective']:.0f} effective "
        f"ones of {value['explored']:,})"
    )


def with_interval(block: Mapping[str, Any], name: str) -> str:
    """A figure of a block with `intervals` (see metrics.as_json) as text."""
    low, high = block["intervals"][name] or (None, None)
    return in_brackets({"value": block[name], "low": low, "high": high})


def in_brackets(estimate: Mapping[str, Any]) -> str:
    """An estimate (value, low, high) as "0.750 [0.740, 0.760]"; "-" without a value."""
    if estimate["value"] is None:
        return "-"
    bounds = "" if estimate["low"] is None else f" [{estimate['low']:.3f}, {estimate['high']:.3f}]"
    return f"{estimate['value']:.3f}{bounds}"


def verdict(difference: Mapping[str, Any]) -> str:
    """The difference with its interval, and whether the model is better, worse, or not clearly different."""
    value, low, high = (difference[k] for k in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return "cannot be compared with"
    if value == low == high == 0:
        return "+0.000: the same as"
    word = "beats" if low > 0 else "falls short of" if high < 0 else "does not differ clearly from"
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]: {word}"
