"""What a model has published of a day, in figures: policies beside another day's, predictions beside the day."""

from pathlib import Path

from jobs.quality.partition_view import data_files, opened, source
from lakehouse.lake import Lake
from schemas.dataset import Dataset
from schemas.tables import PREQUENTIAL

_LONG = "SELECT user_id, unnest(map_entries(policy)) AS entry FROM"


def mean_policy(policies: Path) -> dict[str, float]:
    """Mean probability of each channel over the users of a partition of channel_policies; it has at least one file."""
    with opened(policies) as connection:
        rows = connection.execute(
            'SELECT entry.key, sum(entry.value) / (SELECT count(*) FROM "partition")'
            f' FROM ({_LONG} "partition") GROUP BY 1'
        ).fetchall()
    return {channel: float(probability) for channel, probability in rows}


def policy_change(before: Path, now: Path) -> tuple[float, int] | None:
    """Mean total variation of a user's policy between two partitions, and the users in both; None where there are none.

    A channel that one of a user's policies does not name has probability 0 there.
    """
    if not data_files(before) or not data_files(now):
        return None
    with opened(now) as connection:
        query = f"""
            WITH now AS (SELECT user_id, entry.key AS channel, entry.value AS p FROM ({_LONG} "partition")),
            before AS (SELECT user_id, entry.key AS channel, entry.value AS p FROM ({_LONG} {source(before)})),
            stayed AS (SELECT DISTINCT user_id FROM now SEMI JOIN before USING (user_id)),
            moved AS (
              SELECT sum(abs(coalesce(a.p, 0) - coalesce(b.p, 0))) / 2 AS p
              FROM (FROM before SEMI JOIN stayed USING (user_id)) AS b
              FULL JOIN (FROM now SEMI JOIN stayed USING (user_id)) AS a USING (user_id, channel)
              GROUP BY user_id)
            SELECT avg(p), count(*) FROM moved"""
        change, users = connection.execute(query).fetchall()[0]
    return (float(change), int(users)) if users else None


def judged_gains(lake: Lake, dataset: Dataset, ds: str) -> list[tuple[str, float, float, int]]:
    """Gain, predicted rate (NaN: none), observed rate and labels of the day's `prequential`, where there are labels."""
    partition = lake[PREQUENTIAL, dataset, ds].path
    if not data_files(partition):
        return []
    with opened(partition) as connection:
        return connection.execute(
            "SELECT head, coalesce(predicted_rate, 'nan'::DOUBLE), rate, labels"
            ' FROM "partition"'
            " WHERE rate IS NOT NULL AND labels > 0 ORDER BY head"
        ).fetchall()
