"""tests/helpers/alone.sh, which gives a process of the cluster test its view of the files."""

import subprocess

import pytest
from cluster import NAMESPACE_SCRIPT, may_unshare

pytestmark = pytest.mark.skipif(not may_unshare(), reason="this user may not make mount namespaces")


def test_a_command_sees_its_folders_alone_and_what_it_writes_stays(tmp_path):
    folders = [tmp_path / name for name in ("own", "shared", "another")]
    for folder in folders:
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    own, shared, another = folders
    script = f"ls {tmp_path}; cat {own}/file {shared}/file; echo written > {own}/new"
    command = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        NAMESPACE_SCRIPT,
        tmp_path,
        own,
        shared,
        "--",
        "sh",
        "-c",
    ]
    done = subprocess.run([*command, script], text=True, capture_output=True, check=True)
    assert done.stdout == "own\nshared\nownshared"
    assert (own / "new").read_text() == "written\n"
    assert (another / "file").read_text() == "another"
