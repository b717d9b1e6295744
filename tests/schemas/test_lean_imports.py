"""Modules that count as absent, or wait for their first use, within a block and nowhere else."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.lean_imports import hide_modules, load_lazily

ROOT = Path(__file__).parents[2]


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A package `heavy` with modules `one` and `two`, which write down when they are loaded."""
    said: list[str] = []
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "heavy").mkdir()
    for name in ("__init__", "one", "two"):
        (tmp_path / "heavy" / f"{name}.py").write_text(
            f"import heavy_log\nheavy_log.said.append({name!r})\nvalue = 7\n"
        )
    (tmp_path / "heavy_log.py").write_text("said = []\n")
    before = set(sys.modules)
    import heavy_log  # type: ignore[import-not-found]

    said = heavy_log.said
    yield said
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_what_is_left_out_counts_as_not_installed_within_alone(loaded: list[str]) -> None:
    with hide_modules("heavy"):
        with pytest.raises(ImportError):
            importlib.import_module("heavy")
        with pytest.raises(ImportError):
            from heavy import one
    assert loaded == []
    from heavy import one

    assert (one.value, loaded) == (7, ["__init__", "one"])


def test_what_is_loaded_already_stays(loaded: list[str]) -> None:
    import heavy

    with hide_modules("heavy"):
        from heavy import one
    assert sys.modules["heavy"] is heavy
    assert heavy.one is one


def test_what_waits_is_loaded_when_it_is_asked(loaded: list[str]) -> None:
    with load_lazily("heavy.one"):
        importlib.import_module("heavy.two")
        from heavy import one
    assert loaded == ["__init__", "two"]
    assert one.value == 7
    assert loaded == ["__init__", "two", "one"]
    assert sys.modules["heavy.one"] is one


def test_outside_of_the_block_nothing_waits(loaded: list[str]) -> None:
    finders = list(sys.meta_path)
    with pytest.raises(KeyError), load_lazily("heavy.one"), hide_modules("heavy.two"):
        raise KeyError
    from heavy import one, two

    assert loaded == ["__init__", "one", "two"]
    assert (one.value, two.value) == (7, 7)
    assert sys.meta_path == finders


@pytest.mark.slow
def test_an_audit_loads_no_spark_no_database_and_no_pictures() -> None:
    code = (
        "import sys, jobs.quality.audits; print(*sorted(sys.modules)); "
        "import scipy.stats; print(scipy.stats.norm.cdf(0))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    modules, half = told.splitlines()
    heavy = {"pyspark", "sqlalchemy", "altair.vegalite", "narwhals", "scipy.stats._distn_infrastructure", "matplotlib"}
    assert "great_expectations.core.batch_definition" in modules.split()
    assert not heavy & set(modules.split())
    assert float(half) == 0.5  # whoever does need it later gets it whole
