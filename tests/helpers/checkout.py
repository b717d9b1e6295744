"""A copy of the project with stubs for its entry points, to test the commands of `make` without the work itself."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Writes its name and arguments to the file CALLS. FAIL_<name> in the environment is the message with which it fails.
# It does not end before the file that HOLD_<name> names is gone. While the file that SKIP_<name> names exists, it finds
# nothing to do.
STUB = """
import os, pathlib, sys, time
name = pathlib.Path(sys.argv[0]).stem
with open(os.environ["CALLS"], "a") as calls:
    print(name, *sys.argv[1:], file=calls)
def value(flag):
    return sys.argv[sys.argv.index(flag) + 1]
while os.path.exists(os.environ.get("HOLD_" + name, "")):
    time.sleep(0.2)
if os.path.exists(os.environ.get("SKIP_" + name, "")):
    print("nothing to do: the log has no rows of this day")
    sys.exit(3)
if name == "generate_log" and "FAIL_generate_log" not in os.environ:
    pathlib.Path(value("--out")).mkdir(parents=True)
if name == "log_days":
    if not pathlib.Path(value("--raw")).is_dir():
        sys.exit("error: there is no folder " + value("--raw"))
    print("2022-04-08 2022-04-10")
if name == "status":
    print("2022-04-08 2022-04-09 2022-04-10" if "--todo" in sys.argv else "all fresh: nothing to do")
if name == "build_tables" and "--up-to" in sys.argv and value("--up-to") > "2022-04-10":
    print("nothing to do: the log has the days 2022-04-08 to 2022-04-10")
    sys.exit(3)
if name == "summary":
    print("policies: here")
if name == "evaluate" and "--out" in sys.argv:
    pathlib.Path(value("--out")).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(value("--out")).write_text("{}")
if "FAIL_" + name in os.environ:
    print("error: " + os.environ["FAIL_" + name], file=sys.stderr)
    sys.exit(2)
"""
JOBS = (
    "generate_log", "log_days", "summary", "audit_table", "status", "measure_drift", "report",
    "build_exposures", "build_journeys", "build_feature_spec", "build_sequences",
    "build_tables",
    "verify", "maintain",
)  # fmt: skip
MODEL = (
    "train", "score", "plan_budget", "evaluate", "export_champion", "fine_tune", "promote", "learn",
    "rollback", "expire_models",
    "studies/published", "studies/run", "studies/search", "studies/results", "studies/embeddings",
    "studies/multitask/study",
)  # fmt: skip


@dataclass(frozen=True)
class Checkout:
    root: Path

    def make(self, *arguments: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run make with these arguments, without the Makefile's variables of the caller's environment."""
        removed = re.search(r"^VARIABLES := ((?:.*\\\n)*.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
        removed += ["MAKEFLAGS", "MAKELEVEL", "MFLAGS"]  # else a suite run by make prints "Entering directory"
        inherited = {k: v for k, v in os.environ.items() if k not in removed and not k.startswith("AIRFLOW")}
        return subprocess.run(
            ["make", *arguments],
            cwd=self.root,
            # Airflow takes seconds to store the DAGs of other datasets.
            env={**inherited, "CALLS": str(self.root / "calls.txt"), "MTORL_DATASETS": "kuairand", **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def calls(self) -> list[str]:
        """The entry points that were started, with their arguments, in order."""
        file = self.root / "calls.txt"
        return file.read_text().splitlines() if file.exists() else []

    def forget_calls(self) -> None:
        (self.root / "calls.txt").unlink(missing_ok=True)


def make_checkout(root: Path) -> Checkout:
    """Copy the project to `root`, without what the stubs replace."""
    for folder in ("bin", "dags", "schemas", "lakehouse"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / file, root / file)
    (root / ".venv").symlink_to(Path(sys.prefix))
    for package, names in (("jobs", JOBS), ("mtorl_model", MODEL)):
        (root / package).mkdir()
        for name in names:
            entry_point = root / package / f"{name}.py"
            entry_point.parent.mkdir(exist_ok=True)
            entry_point.write_text(STUB)
    return Checkout(root)
