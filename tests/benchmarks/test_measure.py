"""The cost of a command: of its process and of all that it starts."""

import subprocess
import sys

import pytest

from benchmarks.measure import Cost, Spread, measure, measure_in_turn, ratio, total
from schemas.errors import UserError

pytestmark = pytest.mark.slow(0.3)  # starts processes

MIB = 2**20
# A child holds 200 MiB until it has used 0.8 s of processor time, while its parent holds 100 MiB.
FAMILY = """
import subprocess, sys
block = b"x" * (100 * 2**20)
child = "import time; block = b'x' * (200 * 2**20)\\nwhile time.process_time() < 0.8: pass"
subprocess.run([sys.executable, "-c", child], check=True)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.mark.slow
def test_memory_and_processor_time_are_those_of_all_processes_together():
    cost = measure(python(FAMILY))
    assert 300 * MIB < cost.peak_bytes < 400 * MIB
    assert cost.cpu_s > 0.5


@pytest.mark.slow
def test_memory_can_be_that_of_the_commands_own_process():
    block = b"x" * (400 * MIB)  # the memory of the process that starts it does not count
    cost = measure(python(FAMILY), whole_tree=False)
    del block
    assert 100 * MIB < cost.peak_bytes < 200 * MIB
    assert cost.cpu_s > 0.5


def test_bytes_are_those_that_the_process_has_read(tmp_path):
    file = tmp_path / "large"
    file.write_bytes(b"x" * (50 * MIB))
    pause = "import time; time.sleep(1)"  # long enough for several samples
    start_bytes = measure(python(pause)).read_bytes
    read_bytes = measure(python(f"open({str(file)!r}, 'rb').read(); {pause}")).read_bytes
    assert 50 * MIB <= read_bytes - start_bytes < 51 * MIB
    # The parent's count includes a child that has ended: its bytes are not counted again.
    child = f"open({str(file)!r}, 'rb').read(); {pause}"
    family = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); {pause}"
    assert 50 * MIB <= measure(python(family)).read_bytes - start_bytes < 60 * MIB


def test_figures_are_the_object_on_the_last_line():
    assert measure(python("print('3 rows'); print('{\"rows\": 3}')")).figures == {"rows": 3}
    assert measure(python("print('{\"rows\": 3}'); print('done')")).figures == {}
    assert measure(python("print('{half')")).figures == {}


def test_a_failed_command_is_an_error_with_its_output():
    with pytest.raises(UserError, match="ended with status 3: no such log"):
        measure(python("import sys; sys.stderr.write('no such log'); sys.exit(3)"))


def test_peers_run_in_turn_and_a_ratio_compares_the_costs_of_one_round():
    turns: list[str] = []

    def peer(name: str, seconds: list[float]):
        remaining = iter(seconds)

        def run() -> list[Cost]:
            turns.append(name)
            return [Cost(next(remaining), 0.0, 1, 1)]

        return run

    peers = {"ours": peer("ours", [8, 30, 3]), "theirs": peer("theirs", [2, 10, 1])}
    costs = measure_in_turn(peers, 3, lambda _: None)
    assert turns == ["ours", "theirs"] * 3
    ours_s, theirs_s = ([cost.seconds for cost in rounds] for rounds in costs.values())
    assert (ours_s, theirs_s) == ([8, 30, 3], [2, 10, 1])
    assert ratio(ours_s, theirs_s) == Spread(3, 3, 4)  # the ratio of the medians is 4


def test_commands_in_sequence_cost_their_sum_and_their_largest_memory():
    assert total([Cost(1, 2, 30, 4, "a"), Cost(10, 20, 3, 40, "b")]) == Cost(11, 22, 30, 44, "b")


# Uses a second before it prints that it is ready, and another before it makes the file that the command waits for.
SERVER = """
import pathlib, sys, time
while time.process_time() < 1: pass
print("ready", flush=True)
sys.stdin.readline()
while time.process_time() < 2: pass
pathlib.Path(sys.argv[1]).touch()
sys.stdin.readline()
"""
WAIT = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.5)"


@pytest.mark.slow
def test_what_a_server_has_used_before_the_command_does_not_count(tmp_path):
    done = str(tmp_path / "done")
    with subprocess.Popen([*python(SERVER), done], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout.readline() == "ready\n"
        server.stdin.write("\n")
        server.stdin.flush()
        cost = measure([*python(WAIT), done], servers=[server.pid])
        server.stdin.close()
    assert 0.3 < cost.cpu_s < 1.8
