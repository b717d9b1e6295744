"""Methods that others are measured against: gradient boosting, TabM, and the methods that MTORL's paper compares with.

BC, one of these, is MTORL's network with another loss, so it is in MTORL's folder.
"""

_NAMES = (
    "ag", "boosting", "cql", "din", "dt", "iql", "lightgbm", "mirec", "odt", "rbcq", "star", "tabm", "wide_and_deep",
)  # fmt: skip
METHODS = {name: f"{__name__}.{name}" for name in _NAMES}
