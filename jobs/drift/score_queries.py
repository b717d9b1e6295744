"""Queries on a day's predictions: policies, fusions and their change, predicted and observed rates."""

from collections.abc import Sequence

from lakehouse.duckdb_view import open_view, rows_sql
from lakehouse.lake import Partition

_PROBABILITIES = "SELECT user_id, unnest(map_entries(policy)) AS entry FROM"


def mean_policy(policies: Partition) -> dict[str, float]:
    """The mean probability of each channel over the users of a partition of `channel_policies` with a file."""
    with open_view(policies) as connection:
        rows = connection.execute(
            'SELECT entry.key, sum(entry.value) / (SELECT count(*) FROM "partition")'
            f' FROM ({_PROBABILITIES} "partition") GROUP BY 1'
        ).fetchall()
    return {channel: float(probability) for channel, probability in rows}


def policy_change(yesterday: Partition, today: Partition) -> tuple[float, int] | None:
    """The mean total variation of a user's policy between two partitions, and the number of users in both.

    None if no user is in both. A channel that a policy does not name has probability 0 in it.
    """
    if not yesterday.files() or not today.files():
        return None
    with open_view(today) as connection:
        query = f"""
            WITH now AS (SELECT user_id, entry.key AS channel, entry.value AS p FROM ({_PROBABILITIES} "partition")),
            before AS (
              SELECT user_id, entry.key AS channel, entry.value AS p FROM ({_PROBABILITIES} {rows_sql([yesterday])})),
            stayed AS (SELECT DISTINCT user_id FROM now SEMI JOIN before USING (user_id)),
            moved AS (
              SELECT sum(abs(coalesce(a.p, 0) - coalesce(b.p, 0))) / 2 AS p
              FROM (FROM before SEMI JOIN stayed USING (user_id)) AS b
              FULL JOIN (FROM now SEMI JOIN stayed USING (user_id)) AS a USING (user_id, channel)
              GROUP BY user_id)
            SELECT avg(p), count(*) FROM moved"""
        change, users = connection.execute(query).fetchall()[0]
    return (float(change), int(users)) if users else None


def power_change(yesterday: Partition, today: Partition, powers: Sequence[str]) -> tuple[float, int] | None:
    """The mean of the largest change of a user's power between two partitions of `fusion_weights`, and their users.

    powers: the columns. None if no user is in both.
    """
    if not yesterday.files() or not today.files():
        return None
    changes = ", ".join(f'abs(a."{name}" - b."{name}")' for name in powers)
    with open_view(today) as connection:
        query = f"""
            SELECT avg(greatest({changes})), count(*)
            FROM "partition" AS a JOIN {rows_sql([yesterday])} AS b USING (user_id)"""
        change, users = connection.execute(query).fetchall()[0]
    return (float(change), int(users)) if users else None


def gain_rates(prequential: Partition) -> list[tuple[str, str, float, float, int]]:
    """Each gain with labels of each model: model, gain, predicted rate (NaN without one), observed rate, labels."""
    if not prequential.files():
        return []
    with open_view(prequential) as connection:
        return connection.execute(
            "SELECT split_part(model_version, '/', 1), head, coalesce(predicted_rate, 'nan'::DOUBLE), rate, labels"
            ' FROM "partition"'
            " WHERE rate IS NOT NULL AND labels > 0 ORDER BY 1, head"
        ).fetchall()
