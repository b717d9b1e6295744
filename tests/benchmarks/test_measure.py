"""What a command costs: of itself and of what it starts."""

import sys

import pytest

from benchmarks.measure import Cost, Spread, alternating, measured, ratio, together
from schemas.errors import UserError

MIB = 2**20
# A child that holds 200 MiB until it has used half a second of processor time, beside a parent that holds 100.
FAMILY = """
import subprocess, sys
held = b"x" * (100 * 2**20)
child = "import time; held = b'x' * (200 * 2**20)\\nwhile time.process_time() < 0.8: pass"
subprocess.run([sys.executable, "-c", child], check=True)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_memory_and_processor_time_are_those_of_all_processes_together():
    cost = measured(python(FAMILY))
    assert 300 * MIB < cost.peak_bytes < 400 * MIB
    assert cost.cpu_s > 0.5


def test_bytes_are_those_that_the_process_has_read(tmp_path):
    file = tmp_path / "large"
    file.write_bytes(b"x" * (50 * MIB))
    waits = "import time; time.sleep(1)"  # long enough to be looked at
    nothing = measured(python(waits)).read_bytes
    read = measured(python(f"open({str(file)!r}, 'rb').read(); {waits}")).read_bytes
    assert 50 * MIB <= read - nothing < 51 * MIB
    # A child's, that has ended and was waited for, are in its parent's: not counted again.
    child = f"open({str(file)!r}, 'rb').read(); {waits}"
    family = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); {waits}"
    assert 50 * MIB <= measured(python(family)).read_bytes - nothing < 60 * MIB


def test_figures_are_the_object_on_the_last_line():
    assert measured(python("print('3 rows'); print('{\"rows\": 3}')")).figures == {"rows": 3}
    assert measured(python("print('{\"rows\": 3}'); print('done')")).figures == {}
    assert measured(python("print('{half')")).figures == {}


def test_a_command_that_fails_says_why():
    with pytest.raises(UserError, match="ended with status 3: no such log"):
        measured(python("import sys; sys.stderr.write('no such log'); sys.exit(3)"))


def test_peers_take_turns_and_ratios_are_taken_within_a_round():
    turns: list[tuple[str, int]] = []

    def peer(name: str, costs: list[float]):
        def run(number: int) -> list[Cost]:
            turns.append((name, number))
            return [Cost(costs[number], 0.0, 1, 1)]

        return run

    found = alternating({"ours": peer("ours", [8, 30, 3]), "theirs": peer("theirs", [2, 10, 1])}, 3, lambda _: None)
    assert turns == [("ours", 0), ("theirs", 0), ("ours", 1), ("theirs", 1), ("ours", 2), ("theirs", 2)]
    ours, theirs = ([cost.seconds for cost in costs] for costs in found.values())
    assert ratio(ours, theirs) == Spread(3, 3, 4)  # of the medians it would be 4


def test_commands_one_after_the_other_add_up_but_for_memory():
    assert together([Cost(1, 2, 30, 4, "a"), Cost(10, 20, 3, 40, "b")]) == Cost(11, 22, 30, 44, "b")
