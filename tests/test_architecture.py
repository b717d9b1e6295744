"""Data flows one way: schemas <- jobs, schemas <- mtorl_model, dags and bin on top by name, simulation and
benchmarks above all."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("schemas", "lakehouse", "features", "jobs", "mtorl_model", "dags", "bin", "simulation", "benchmarks")
MAY_IMPORT = {
    "schemas": {"schemas"},
    "lakehouse": {"schemas", "lakehouse"},
    "features": {"schemas", "features"},
    "jobs": {"schemas", "lakehouse", "features", "jobs"},
    "mtorl_model": {"schemas", "lakehouse", "features", "mtorl_model"},
    "dags": {"schemas", "lakehouse", "dags"},
    "bin": {"schemas", "lakehouse", "bin"},
    # The one place that sees both the truth and the model.
    "simulation": {"schemas", "lakehouse", "features", "jobs", "mtorl_model", "simulation"},
    "benchmarks": {"schemas", "lakehouse", "features", "jobs", "mtorl_model", "benchmarks"},
}


def parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text())
    except SystemError:
        # Python 3.11 loses count where the garbage collector, in the middle of it, ends something of another test that
        # compiles a line itself (Py4J's connections do, to show where one broke).
        return ast.parse(path.read_text())


def imported(path: Path) -> set[str]:
    """Full names of everything a file imports, function bodies included."""
    names = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_no_edge_points_the_wrong_way(package):
    wrong = [
        f"{name} imports {other}"
        for name, path in modules().items()
        if name.split(".")[0] == package
        for other in imported(path)
        if other.split(".")[0] in set(PACKAGES) - MAY_IMPORT[package]
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("package", "more"),
    [("schemas", set()), ("features", {"schemas", "numpy", "pyarrow"}), ("bin", {"schemas", "psutil"})],
)
def test_a_package_needs_little_more_than_the_standard_library(package, more):
    allowed = sys.stdlib_module_names | {package} | more
    wrong = [
        f"{name} imports {other}"
        for name, path in modules().items()
        if name.split(".")[0] == package
        for other in imported(path)
        if other.split(".")[0] not in allowed
    ]
    assert wrong == []


def test_there_is_no_circle():
    known = modules()
    edges = {name: {o for o in imported(path) if o in known and o != name} for name, path in known.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"circle: {' -> '.join([*trail, name])}"
        if name not in done:
            for other in sorted(edges[name]):
                visit(other, (*trail, name))
            done.add(name)

    for name in sorted(known):
        visit(name, ())
    assert len(done) > 30
