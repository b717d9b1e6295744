"""Modules that cannot be imported, or are loaded at their first use, inside a block and only there."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.lean_imports import hide_modules, load_lazily

ROOT = Path(__file__).parents[2]


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A package `heavy` with modules `one` and `two`; the list has the names of those that were loaded."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "heavy").mkdir()
    for name in ("__init__", "one", "two"):
        (tmp_path / "heavy" / f"{name}.py").write_text(
            f"import heavy_log\nheavy_log.loaded.append({name!r})\nvalue = 7\n"
        )
    (tmp_path / "heavy_log.py").write_text("loaded = []\n")
    modules_before = set(sys.modules)
    import heavy_log  # type: ignore[import-not-found]

    yield heavy_log.loaded
    for name in set(sys.modules) - modules_before:
        del sys.modules[name]


def test_a_hidden_module_cannot_be_imported_inside_the_block(loaded: list[str]) -> None:
    with hide_modules("heavy"):
        with pytest.raises(ImportError):
            importlib.import_module("heavy")
        with pytest.raises(ImportError):
            from heavy import one
    assert loaded == []
    from heavy import one

    assert (one.value, loaded) == (7, ["__init__", "one"])


def test_a_loaded_module_is_not_hidden(loaded: list[str]) -> None:
    import heavy

    with hide_modules("heavy"):
        from heavy import one
    assert sys.modules["heavy"] is heavy
    assert heavy.one is one


def test_a_lazy_module_is_loaded_at_its_first_use(loaded: list[str]) -> None:
    with load_lazily("heavy.one"):
        importlib.import_module("heavy.two")
        from heavy import one
    assert loaded == ["__init__", "two"]
    assert one.value == 7
    assert loaded == ["__init__", "two", "one"]
    assert sys.modules["heavy.one"] is one


def test_outside_of_the_block_imports_are_normal(loaded: list[str]) -> None:
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
        "import sys, jobs.quality.validation; print(*sorted(sys.modules)); "
        "import scipy.stats; print(scipy.stats.norm.cdf(0))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    modules, half = output.splitlines()
    heavy = {"pyspark", "sqlalchemy", "altair.vegalite", "narwhals", "scipy.stats._distn_infrastructure", "matplotlib"}
    assert "great_expectations.core.batch_definition" in modules.split()
    assert not heavy & set(modules.split())
    assert float(half) == 0.5  # a later import gets the complete package
