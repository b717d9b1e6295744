"""Data flows one way through the folders: which may import which is one table, and a folder stays small.

python tests/test_architecture.py prints the structure in numbers.
"""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Each wing, and the other wings that its modules may import. A wing may import only wings above it, so
# there is no circle. "jobs" and "mtorl_model" are the entry points on top of their folders: no wing imports those.
MAY_IMPORT = {
    "schemas": "",  # what the parts agree on
    "features": "schemas",  # point-in-time features, on whole columns
    "lakehouse": "schemas features",  # where tables are, how they are published and read
    #
    "jobs.spark": "schemas lakehouse",
    "jobs.raw": "schemas lakehouse jobs.spark",
    "jobs.history": "schemas lakehouse features jobs.spark",
    "jobs.quality": "schemas lakehouse",
    "jobs.drift": "schemas lakehouse jobs.quality",
    "jobs.reports": "schemas lakehouse jobs.quality jobs.drift",
    "jobs.maintain": "schemas lakehouse jobs.raw jobs.quality",
    "jobs.verify": "schemas lakehouse jobs.raw jobs.quality jobs.drift jobs.reports",
    "jobs.generator": "schemas features",
    "jobs.draft": "schemas jobs.raw",  # jobs.raw.reader: neither Spark nor torch, since a newcomer waits for it
    "jobs.check_contract": "schemas lakehouse jobs.spark jobs.raw jobs.draft",
    "jobs": (
        "schemas lakehouse jobs.spark jobs.raw jobs.history jobs.quality jobs.drift jobs.reports jobs.generator "
        "jobs.draft"
    ),
    #
    "mtorl_model.data": "schemas lakehouse features",
    "mtorl_model.training": "schemas lakehouse mtorl_model.data",
    "mtorl_model.methods": "schemas features mtorl_model.data mtorl_model.training",
    "mtorl_model.inference": "schemas lakehouse features mtorl_model.data mtorl_model.methods",
    "mtorl_model.evaluation": "schemas lakehouse mtorl_model.data mtorl_model.methods",
    "mtorl_model.champion": (
        "schemas lakehouse mtorl_model.data mtorl_model.training mtorl_model.methods mtorl_model.evaluation"
    ),
    "mtorl_model.budget": "schemas lakehouse features mtorl_model.data mtorl_model.methods mtorl_model.inference",
    "mtorl_model.studies": (
        "schemas lakehouse mtorl_model.data mtorl_model.training mtorl_model.methods mtorl_model.evaluation "
        "mtorl_model.champion mtorl_model.budget"
    ),
    "mtorl_model": (
        "schemas lakehouse features mtorl_model.data mtorl_model.training mtorl_model.methods mtorl_model.inference "
        "mtorl_model.evaluation mtorl_model.champion mtorl_model.budget"
    ),
    #
    "dags": "schemas",  # wiring: entry points are started by name
    "bin": "schemas",  # what make starts
    "simulation": (  # the one place that sees both the truth and the model
        "schemas lakehouse features jobs.generator mtorl_model.data mtorl_model.training mtorl_model.methods "
        "mtorl_model.inference mtorl_model.evaluation mtorl_model.budget mtorl_model.studies"
    ),
    "benchmarks": ("schemas lakehouse mtorl_model.data mtorl_model.training mtorl_model.methods mtorl_model.champion"),
}
PACKAGES = tuple(dict.fromkeys(wing.partition(".")[0] for wing in MAY_IMPORT))
# Every folder below these packages is a wing.
SPLIT = ("jobs", "mtorl_model")
MOST_SIBLINGS = 15


def parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text())
    except SystemError:
        # Python 3.11 loses count where the garbage collector, during the parse, ends an object of another test that
        # compiles a line itself (Py4J's connections do, to show where one broke).
        return ast.parse(path.read_text())


@cache
def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }


@cache
def imported(path: Path) -> frozenset[str]:
    """Full names of everything a file imports, function bodies included; a module where the name is one."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            full = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in modules() else str(node.module) for name in full.values()}
    return frozenset(names)


@cache
def wing_of(module: str) -> str:
    """jobs.raw of jobs.raw.files; jobs of an entry point; schemas of all that is below schemas."""
    parts = module.split(".")
    is_in_folder = parts[0] in SPLIT and (ROOT / parts[0] / parts[1]).is_dir() if len(parts) > 1 else False
    return ".".join(parts[:2]) if is_in_folder else parts[0]


@cache
def arrows(wing: str) -> set[tuple[str, str]]:
    """The imports of a wing's modules from other wings: (module, imported module)."""
    return {
        (module, imported_name)
        for module, path in modules().items()
        if wing_of(module) == wing
        for imported_name in imported(path)
        if imported_name.partition(".")[0] in PACKAGES and wing_of(imported_name) != wing
    }


def test_the_table_names_every_wing_and_only_wings_above():
    assert {wing_of(module) for module in modules()} == set(MAY_IMPORT)
    wings = list(MAY_IMPORT)
    for place, (wing, allowed) in enumerate(MAY_IMPORT.items()):
        assert set(allowed.split()) <= set(wings[:place]), wing


@pytest.mark.slow
@pytest.mark.parametrize("wing", MAY_IMPORT)
def test_a_wing_imports_what_the_table_allows(wing):
    allowed = set(MAY_IMPORT[wing].split())
    assert [
        f"{module} imports {imported_name}"
        for module, imported_name in arrows(wing)
        if wing_of(imported_name) not in allowed
    ] == []


@pytest.mark.parametrize("wing", MAY_IMPORT)
def test_the_table_allows_no_more_than_is_used(wing):
    used = {wing_of(imported_name) for _, imported_name in arrows(wing)}
    assert set(MAY_IMPORT[wing].split()) - used == set()


def test_no_method_imports_another():
    """A method may read what is common to all, or another method by its name in METHODS."""
    folders = {path.name for path in (ROOT / "mtorl_model" / "methods").iterdir() if path.is_dir()} - {"common"}
    for module, path in modules().items():
        parts = module.split(".")
        if parts[:2] == ["mtorl_model", "methods"] and len(parts) > 3:
            other_methods = {f"mtorl_model.methods.{folder}" for folder in folders - {parts[2]}}
            assert [name for name in imported(path) if ".".join(name.split(".")[:3]) in other_methods] == [], module


@pytest.mark.parametrize(
    ("package", "libraries"), [("schemas", set()), ("features", {"numpy", "pyarrow"}), ("bin", {"psutil"})]
)
def test_a_package_needs_little_more_than_the_standard_library(package, libraries):
    allowed = sys.stdlib_module_names | {*PACKAGES} | libraries
    wrong = [
        f"{module} imports {imported_name}"
        for module, path in modules().items()
        if module.split(".")[0] == package
        for imported_name in imported(path)
        if imported_name.split(".")[0] not in allowed
    ]
    assert wrong == []


def test_there_is_no_circle_between_modules():
    edges = {name: {o for o in imported(path) if o in modules() and o != name} for name, path in modules().items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"circle: {' -> '.join([*trail, name])}"
        if name not in done:
            for imported_name in sorted(edges[name]):
                visit(imported_name, (*trail, name))
            done.add(name)

    for name in sorted(modules()):
        visit(name, ())
    assert len(done) > 30


def test_a_folder_is_seen_at_a_glance():
    crowded = {}
    for package in (*PACKAGES, "tests"):
        for folder in (ROOT / package, *(path for path in (ROOT / package).rglob("*") if path.is_dir())):
            siblings = [path for path in folder.glob("*.py") if path.name not in ("__init__.py", "conftest.py")]
            if len(siblings) > MOST_SIBLINGS:
                crowded[str(folder.relative_to(ROOT))] = len(siblings)
    assert crowded == {}


def depth(names: set[str]) -> int:
    """The longest chain of imports among these modules, counted in modules."""
    edges = {
        name: {
            imported_name
            for imported_name in imported(modules()[name])
            if imported_name in names and imported_name != name
        }
        for name in names
    }

    @cache
    def height(name: str) -> int:
        return 1 + max(map(height, edges[name]), default=0)

    return max(map(height, names), default=0)


def print_structure() -> None:
    """For each package that is split into wings: its size, and the number of imports between its wings."""
    for package in SPLIT:
        package_modules = {
            name for name in modules() if name.split(".")[0] == package and modules()[name].name != "__init__.py"
        }
        on_top = {name for name in package_modules if wing_of(name) == package}
        wing_arrows = {
            (wing_of(name), wing_of(imported_name))
            for name in package_modules
            for imported_name in imported(modules()[name])
            if imported_name in package_modules and wing_of(imported_name) != wing_of(name)
        }
        imports = sum(
            imported_name in package_modules and imported_name != name
            for name in package_modules
            for imported_name in imported(modules()[name])
        )
        wings = {wing_of(name) for name in package_modules} - {package}
        print(
            f"{package}: {len(package_modules)} modules, {len(on_top)} on top, {len(wings)} wings, "
            f"{len(wing_arrows)} arrows between wings, {imports} imports between modules, "
            f"{depth(package_modules)} modules deep"
        )


if __name__ == "__main__":
    print_structure()
