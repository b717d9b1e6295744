"""check_contract on the invented shop's log: what the contract would keep and refuse, without writing anything."""

import sys

import pyarrow as pa
import pytest
from raw_logs import header
from shop import SHOP, sent

import schemas.dataset
from jobs.check_contract import __main__ as check_contract
from jobs.raw.files import RawFiles
from jobs.raw.reader.typed_rows import RAW, REASON
from schemas.errors import UserError

ROWS = [
    *(sent(f"c{k % 4}", "2024-03-30", k + 4, medium=("mail", "sms")[k % 2], opened=k % 3 // 2) for k in range(20)),
    sent("c0", "2024-03-30", 4, opened=0),  # repeats the first row's key
    "c1;2024-03-30T10:00:00Z;sms;free;1;;41",
    "c1;yesterday;sms;0.1;1;;41",
    "c2;2024-03-30T10:00:00Z;sms;0.1",
]


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "sent-1.txt").write_text("\n".join([header(SHOP.log), *ROWS[:12]]) + "\n")
    (tmp_path / "sent-2.txt").write_text("\n".join([header(SHOP.log), *ROWS[12:]]) + "\n")
    return tmp_path


def files_of(folder) -> RawFiles:
    return RawFiles(SHOP.log, tuple(sorted(folder.glob("sent-*.txt"))))


def test_the_first_rows_end_in_the_middle_of_a_file(raw):
    assert check_contract.first_rows(files_of(raw), 5).column(RAW).to_pylist() == [r.encode() for r in ROWS[:5]]
    assert len(check_contract.first_rows(files_of(raw), 14)) == 14
    assert len(check_contract.first_rows(files_of(raw), 1_000)) == len(ROWS)


def test_sampled_files_have_the_names_and_the_rows_of_the_log(raw, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    sample = check_contract.first_rows(files_of(raw), 14)
    files = check_contract.sample_files(sample, files_of(raw), folder)
    assert [path.name for path in files.paths] == ["sent-1.txt", "sent-2.txt"]
    assert check_contract.first_rows(files, 1_000).equals(sample)


def test_rows_that_were_refused_when_they_were_read_are_not_read_again():
    rows = pa.table({"user_id": ["a"], REASON: pa.nulls(1, pa.string()), RAW: [b"1"]})
    refused = pa.table({"customer": ["b"], REASON: ["customer is not text"], RAW: pa.array([b"2"], pa.binary())})
    assert check_contract.with_refused(rows, refused).to_pylist() == [
        {"user_id": "a", REASON: None, RAW: b"1"}, {"user_id": None, REASON: "customer is not text", RAW: b"2"},
    ]  # fmt: skip


def test_a_log_without_rows_is_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "sent-1.txt").write_text(header(SHOP.log) + "\n")
    monkeypatch.setattr(schemas.dataset, "_registry", lambda: {"shop": SHOP})
    monkeypatch.setattr(sys, "argv", ["check_contract", "--dataset", "shop", "--raw", str(tmp_path)])
    with pytest.raises(UserError, match=r"have no rows: sent-1\.txt"):
        check_contract.main()


def test_the_fate_of_the_first_rows_is_printed(raw, monkeypatch, capsys):
    monkeypatch.setattr(schemas.dataset, "_registry", lambda: {"shop": SHOP})
    monkeypatch.setattr(sys, "argv", ["check_contract", "--dataset", "shop", "--raw", str(raw)])
    raw_files = sorted(raw.iterdir())
    check_contract.main()
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "shop: the first 24 rows of sent-1.txt, sent-2.txt"
    assert lines[1:5] == [
        "20 exposures of 4 users", "1 duplicate: equal in customer, sent, medium", "3 refused",
        "2 days, 2024-03-30 to 2024-03-31, on the clocks of Europe/Berlin",
    ]  # fmt: skip
    refused = lines[lines.index("refused:") + 1 :][:3]
    assert {line.split(" for example: ")[0] for line in refused} == {
        "1 price is not a number", f"1 {SHOP.refusals[0].reason}", "1 the row has 4 of 7 fields",
    }  # fmt: skip
    assert any(line.startswith("price double") and "unreadable 4.2%" in line for line in lines)
    assert "open gain, known after complete 0 to 1, mean 0.2857" in lines
    assert sorted(raw.iterdir()) == raw_files
