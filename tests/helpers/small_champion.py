"""The artificial champion of the benchmarks in a small size, for tests that do not measure it."""

import pytest

from benchmarks.inputs import made_up_journeys

_SMALL = {"members": 2, "hidden": 16, "channel_iterations": 8, "gain_iterations": 8, "value_iterations": 8}


def shrink_champions(patch: pytest.MonkeyPatch) -> None:
    """From now on `publish_champion` makes small networks and fits few trees, on few of its random labels."""
    preset = made_up_journeys.preset
    patch.setattr(made_up_journeys, "_LABELS", 400)
    patch.setattr(made_up_journeys, "preset", lambda name, dataset: preset(name, dataset).changed(_SMALL))
