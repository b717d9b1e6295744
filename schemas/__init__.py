"""The contracts that all parts share: tables, datasets, days, splits, errors. Imports only the standard library."""

import zoneinfo

# Every process reads time zones from the pinned package tzdata, whose version is that of DuckDB's own database, and not
# from the machine: DuckDB computes the day of a row, and Python the end of that day.
zoneinfo.reset_tzpath(())
zoneinfo.ZoneInfo.clear_cache()
