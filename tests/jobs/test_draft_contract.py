"""The entry point that drafts a contract: it writes one module, and never over another one."""

import re
import subprocess
import sys

import pyarrow as pa
import pytest

from jobs import draft_contract
from jobs.raw.contract_sql import evaluate
from schemas.dataset import RESERVED_COLUMNS, Dataset
from schemas.errors import UserError

pytestmark = pytest.mark.slow(0.3)  # drafts contracts of files

LOG = "customer,sent_at,medium,opened\n" + "".join(
    f"c{k % 30},{1_711_833_300 + k},{('mail', 'sms')[k % 2]},{int(k % 7 == 0)}\n" for k in range(100)
)


@pytest.fixture
def draft(tmp_path, monkeypatch):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "sent.csv").write_text(LOG)

    def run(name="shop", *more):
        path = tmp_path / "module.py"
        arguments = ["draft_contract", "--raw", str(raw), "--name", name, "--out", str(path), *more]
        monkeypatch.setattr(sys, "argv", arguments)
        draft_contract.main()
        return path

    return run


def test_it_writes_the_module_and_names_the_next_step(draft, capsys):
    text = draft().read_text()
    assert text.startswith('"""shop: drafted from 100 rows of sent.csv.')
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("python -m jobs.check_contract --dataset shop --raw ")
    assert lines[1].startswith("1 open question: answer each UNANSWERED")
    assert text.count("Known.UNANSWERED") == 1  # of `opened`: an epoch has no zone, and the other columns have roles


def test_a_person_can_name_the_user(draft, tmp_path):
    log = tmp_path / "raw" / "sent.csv"
    log.write_text(LOG.replace("customer", "kunde"))
    path = draft()
    assert "Candidates for the user: kunde (30 different values in 100 rows). If one of them" in " ".join(
        path.read_text().replace("#", "").split()
    )
    path.unlink()
    assert '"log.kunde"' in draft("shop", "--user", "kunde").read_text()
    path.unlink()
    with pytest.raises(UserError, match=r"--user nobody: sent\.csv has no such column; it has kunde, sent_at"):
        draft("shop", "--user", "nobody")


def test_a_person_can_name_the_channel_and_the_gains(draft, tmp_path):
    log = tmp_path / "raw" / "sent.csv"
    log.write_text(LOG.replace("medium,opened", "weg,gelesen"))
    path = draft("shop", "--channel", "weg", "--gain", "gelesen")
    text = path.read_text()
    assert 'channel="log.weg"' in text
    assert 'gains=(Gain("gelesen", 1.0),)' in text
    assert text.count("Known.UNANSWERED") == 1
    path.unlink()
    with pytest.raises(UserError, match=r"--gain weg: its values are not yes and no, but mail, sms"):
        draft("shop", "--gain", "weg")
    with pytest.raises(UserError, match=r"--channel nothing: sent\.csv has no such column; it has customer"):
        draft("shop", "--channel", "nothing")


def test_a_user_of_several_columns_is_missing_if_one_of_them_is(draft, tmp_path):
    log = tmp_path / "raw" / "sent.csv"
    log.write_text(LOG.replace("customer", "kunde"))
    comment = " ".join(draft().read_text().replace("#", "").split())
    (advice,) = re.findall(r"Name them, for example (.+?): without", comment)
    views = {"log": pa.table({"a": ["x", None, "x"], "b": pa.array([1, 1, None], pa.int64())})}
    assert evaluate({"user": advice}, views, "shop").column("user").to_pylist() == ["x/1", None, None]


@pytest.mark.parametrize("name", [*RESERVED_COLUMNS, "hour", "weekday"])
@pytest.mark.parametrize("is_gain", [False, True])
def test_a_raw_column_with_a_reserved_name_is_drafted_under_another_name(draft, tmp_path, name, is_gain):
    header, *rows = LOG.splitlines()
    values = [int(k % 11 == 0) for k in range(len(rows))] if is_gain else [f"v{k % 7}" for k in range(len(rows))]
    lines = [f"{header},{name.upper()}", *(f"{row},{value}" for row, value in zip(rows, values, strict=True))]
    (tmp_path / "raw" / "sent.csv").write_text("\n".join(lines) + "\n")
    gain = name.upper() if is_gain else "opened"
    roles = ("--user", "customer", "--channel", "medium", "--gain", gain)
    dataset = dataset_of(draft("shop", *roles).read_text().replace("Known.UNANSWERED", "Known.AFTER"))
    dataset.check()
    assert f"{name.upper()}_2" in [derived.column.name for derived in dataset.columns]


def dataset_of(module: str) -> Dataset:
    names: dict = {"__name__": "shop"}
    exec(module, names)
    return names["DATASETS"][0]


def test_an_earlier_module_is_not_overwritten(draft):
    path = draft()
    path.write_text("answered")
    with pytest.raises(UserError, match="exists already"):
        draft()
    assert path.read_text() == "answered"


@pytest.mark.parametrize(
    ("name", "line"), [("criteo", "there is a dataset criteo already"), ("My-Log", "use a-z, 0-9")]
)
def test_a_name_that_cannot_be_used_is_refused(draft, name, line):
    with pytest.raises(UserError, match=line):
        draft(name)


def test_drafting_needs_neither_spark_nor_torch():
    code = "import sys, jobs.draft_contract; print([m for m in ('pyspark', 'torch') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
