"""Python and DuckDB have the same clocks in every time zone, so the day of a row ends where its day ends."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import duckdb
import pyarrow as pa
import pytest

from schemas.times import _NOT_A_PLACE

FIRST, WEEKS = datetime(2015, 1, 1, 12, tzinfo=UTC), 21 * 53


@pytest.mark.slow
def test_python_and_duckdb_agree_in_every_zone():
    moments = [FIRST + timedelta(weeks=week) for week in range(WEEKS)]
    seconds = pa.table({"s": [int(moment.timestamp()) for moment in moments]})
    zones = [name for name in sorted(available_timezones()) if not _NOT_A_PLACE.fullmatch(name)]
    assert len(zones) > 500
    different = {}
    with duckdb.connect(config={"threads": 1}) as database:
        database.register("moments", seconds)
        for zone in zones:
            query = f"SELECT timezone('{zone}', make_timestamptz(s * 1000000)) AS clock FROM moments"
            duckdb_clock = database.sql(query).to_arrow_table().column("clock").to_pylist()
            python_clock = [moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for moment in moments]
            if days := [p.date() for p, d in zip(python_clock, duckdb_clock, strict=True) if p != d]:
                different[zone] = days[0]
    assert not different, "pin the version of tzdata that DuckDB has"
