"""bin/setup.sh, with a PATH of fake commands for python, java and spark-submit; and the pinned requirements."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from checkout import ROOT

pytestmark = pytest.mark.slow(0.3)  # starts processes

TOOLS = [
    "bash",
    "dirname",
    "id",
    "mkdir",
    "cat",
    "sha256sum",
    "sed",
    "flock",
    "grep",
    "awk",
    "env",
    "chmod",
    "rm",
    "realpath",
    "mv",
]
# `-m venv --clear DIR` deletes DIR and makes it with DIR/bin/python. `-m pip` writes its arguments to a file, and fails
# while the file `broken` exists.
PYTHON = """#!/bin/bash
case "$*" in
  *"bin/interpreter.py identity") echo "3 11 $(realpath "$(dirname "$0")/..")" ;;
  *"bin/interpreter.py check 3.11") exit 0 ;;
  "-m venv --clear"*) rm -rf "$4"; mkdir -p "$4/bin"; cat "$0" >"$4/bin/python"; chmod +x "$4/bin/python" ;;
  "-m pip"*) echo "$*" >>"$INSTALLS"; [ ! -e "$BROKEN" ] || { echo "ERROR: no such version"; exit 1; } ;;
esac
"""


# Writes its options to a file, and makes the archive of classes that they name.
SPARK_SUBMIT = """#!/bin/bash
echo "$SPARK_SUBMIT_OPTS" >>"$SPARK_STARTS"
[ ! -e "$BROKEN_SPARK" ] || exit 1
echo classes >"${SPARK_SUBMIT_OPTS##*ArchiveClassesAtExit=}"
"""


class Machine:
    """A machine that has only the project, TOOLS, and fake commands for python, java and spark-submit."""

    def __init__(self, root: Path):
        self.root = root
        (root / "tools").mkdir()
        shutil.copytree(ROOT / "bin", root / "bin")
        (root / "requirements.txt").write_text("one==1\n")
        for tool in TOOLS:
            (root / "tools" / tool).symlink_to(shutil.which(tool))
        self.tool("python3", PYTHON)
        self.tool("spark-submit", SPARK_SUBMIT)
        self.java('openjdk version "17.0.1"')

    def tool(self, name: str, text: str) -> None:
        path = self.root / "tools" / name
        path.write_text(text)
        path.chmod(0o755)

    def java(self, version: str) -> None:
        self.tool("java", f"#!/bin/bash\necho '{version}' >&2\n")

    def setup(self, project: Path | None = None) -> subprocess.CompletedProcess[str]:
        files = {"INSTALLS": "log", "BROKEN": "broken", "SPARK_STARTS": "spark", "BROKEN_SPARK": "no-spark"}
        environment = {name: str(self.root / file) for name, file in files.items()}
        environment["PATH"] = str(self.root / "tools")
        script = (project or self.root) / "bin" / "setup.sh"
        return subprocess.run([script], env=environment, capture_output=True, text=True, timeout=60)

    @property
    def broken(self) -> Path:
        return self.root / "broken"

    def installs(self) -> int:
        log = self.root / "log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def archives(self) -> list[Path]:
        return sorted((self.root / ".venv").glob("spark-*"))

    def spark_starts(self) -> int:
        return len((self.root / "spark").read_text().splitlines())


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_a_second_setup_changes_nothing(machine):
    assert machine.setup().returncode == 0
    second = machine.setup()
    assert (second.returncode, second.stdout, machine.installs(), machine.spark_starts()) == (0, "", 1, 1)
    stamp = hashlib.sha256(b"one==1\n").hexdigest()
    assert (machine.root / ".venv" / ".installed").read_text().startswith(stamp)


def test_changed_requirements_are_installed(machine):
    machine.setup()
    (machine.root / "requirements.txt").write_text("one==2\n")
    assert machine.setup().returncode == 0
    assert machine.installs() == 2


def test_a_moved_checkout_gets_a_new_environment(machine):
    machine.setup()
    (machine.root / "elsewhere").mkdir()
    for part in ("bin", ".venv", "requirements.txt"):
        (machine.root / part).rename(machine.root / "elsewhere" / part)
    assert machine.setup(machine.root / "elsewhere").returncode == 0
    assert machine.installs() == 2


@pytest.mark.parametrize(
    "python",
    [PYTHON.replace("3 11", "3 10"), "#!/nowhere/python\n"],
    ids=["of another version", "that does not start"],
)
def test_an_environment_with_a_python_is_made_anew(machine, python):
    machine.setup()
    (machine.root / ".venv" / "bin" / "python").write_text(python)
    (machine.root / ".venv" / "left-over").touch()
    assert machine.setup().returncode == 0
    assert machine.installs() == 2
    assert not (machine.root / ".venv" / "left-over").exists()


def test_nothing_is_removed_through_a_link(machine):
    (machine.root / "mine" / "bin").mkdir(parents=True)
    (machine.root / ".venv").symlink_to("mine")
    done = machine.setup()
    assert re.fullmatch(r"error: \S+/\.venv is a link to .*: remove the link\n", done.stderr)
    assert (machine.root / "mine" / "bin").is_dir()


def test_a_setup_that_failed_is_continued(machine):
    machine.broken.touch()
    failed = machine.setup()
    assert failed.returncode != 0
    assert failed.stderr.startswith("error: the packages cannot be installed: ERROR: no such version")
    assert len(failed.stderr.splitlines()) == 1
    machine.broken.unlink()
    assert machine.setup().returncode == 0
    assert machine.installs() == 2


def test_another_java_gets_an_archive_of_classes_of_its_own(machine):
    machine.setup()
    first = machine.archives()
    machine.java('openjdk version "21.0.2"')
    machine.setup()
    assert [path.suffix for path in first] == [".jsa"]
    assert len(machine.archives()) == 1
    assert machine.archives() != first


def test_spark_classes_that_cannot_be_archived_are_one_warning(machine):
    (machine.root / "no-spark").touch()
    first, second = machine.setup(), machine.setup()
    assert (first.returncode, second.returncode) == (0, 0)
    assert "warning: Spark's classes cannot be archived" in first.stdout
    assert (second.stdout, machine.spark_starts()) == ("", 1)


def test_java_uses_the_archive_of_classes(machine):
    machine.setup()
    (archive,) = machine.archives()

    def options(folder: Path = machine.root) -> str:
        script = 'source bin/common.sh; step_environment; printf "%s" "$SPARK_SUBMIT_OPTS"'
        tools = {"PATH": str(machine.root / "tools")}
        return subprocess.run(
            ["bash", "-c", script], cwd=folder, env=tools, capture_output=True, text=True, check=True
        ).stdout

    assert f" -XX:SharedArchiveFile={archive} " in options()
    spaced = machine.root / "a folder"
    spaced.mkdir()
    for part in ("bin", ".venv"):
        (spaced / part).symlink_to(machine.root / part)
    assert "SharedArchiveFile" not in options(spaced)  # Spark cuts its options at spaces
    archive.write_text("")  # as setup leaves it where it cannot make the archive
    assert "SharedArchiveFile" not in options()


@pytest.mark.parametrize(("version", "major"), [('openjdk version "11.0.2"', "11"), ('java version "1.8.0_1"', "1")])
def test_another_java_is_refused_with_one_line(machine, version, major):
    machine.java(version)
    done = machine.setup()
    assert done.returncode != 0
    assert re.fullmatch(rf"error: Spark needs Java 17 or 21 \(found: {major}\).*\n", done.stderr)


def test_a_java_that_first_prints_its_options_is_suitable(machine):
    options = 'Picked up JAVA_TOOL_OPTIONS: -Dmy.version="11"'
    machine.tool("java", f"#!/bin/bash\nprintf '%s\\n' '{options}' 'openjdk version \"21.0.2\" 2024-01-16' >&2\n")
    done = machine.setup()
    assert (done.returncode, done.stderr) == (0, "")


def test_no_java_is_refused_with_one_line(machine):
    (machine.root / "tools" / "java").unlink()
    assert re.fullmatch(r"error: Spark needs Java 17 or 21 \(found: none\).*\n", machine.setup().stderr)


def test_an_old_python_is_refused_with_one_line(machine):
    machine.tool("python3", '#!/bin/bash\n[ "$1" != --version ] || { echo Python 3.9.2; exit 0; }\nexit 1\n')
    done = machine.setup()
    assert done.returncode != 0
    assert re.fullmatch(r"error: Python 3\.11 or newer .*found: Python 3\.9\.2.*\n", done.stderr)
    assert machine.installs() == 0


def test_every_requirement_is_pinned_and_names_no_place():
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    pins = [line for line in lines if line]
    assert pins
    for pin in pins:
        assert re.fullmatch(r"[a-z0-9.-]+==[a-z0-9.]+", pin), pin
        assert not pin.startswith(("nvidia", "cuda", "triton")), pin
    names = [pin.split("==")[0] for pin in pins]
    assert len(set(names)) == len(names)
    versions = dict(pin.split("==") for pin in pins)
    assert versions["pyspark"] == versions["pyspark-client"]


def test_what_is_installed_is_what_is_pinned():
    from importlib.metadata import version

    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if pin := line.split("#")[0].strip():
            name, pinned_version = pin.split("==")
            assert version(name).partition("+")[0] == pinned_version, name
