"""All shell scripts of the project."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from checkout import ROOT

STARTED = [*(ROOT / "bin").glob("*.sh"), *(ROOT / "docker").glob("*.sh"), ROOT / ".ci" / "run"]


@pytest.mark.parametrize("script", STARTED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_script_can_be_started_and_bash_can_parse_it(script: Path):
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


def test_no_python_stands_in_a_script():
    for file in (*STARTED, ROOT / "Makefile", ROOT / "docker" / "compose.yaml", ROOT / "docker" / "Dockerfile"):
        assert not re.search(r"(?i)python\S*\s+-c\b|<<.*python", file.read_text()), file
