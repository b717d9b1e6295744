"""A drafted module: it is readable, asks what only a person can answer, and is a contract once that is answered."""

import gzip
import json
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from jobs.draft.contract_draft import draft_of
from jobs.draft.module_text import module_text
from jobs.draft.sample import tables_in
from jobs.raw.contract_sql import check_expressions
from schemas.contract import Known
from schemas.dataset import Dataset

START = datetime(2024, 3, 30, 22, 15)


def drafted(folder) -> str:
    return module_text(draft_of("shop", tables_in(folder)))


def contract_in(text: str) -> Dataset:
    module: dict = {}
    exec(compile(text, "shop.py", "exec"), module)
    (dataset,) = module["DATASETS"]
    dataset.check()
    check_expressions(dataset)
    return dataset


def answered(text: str, **answers: str) -> str:
    """The text with one answer to all questions about `known`, and the given answers to the others."""
    for name, answer in answers.items():
        text = text.replace(f"{name}=UNANSWERED", f"{name}={answer!r}")
        text = text.replace(f"{name} = UNANSWERED", f"{name} = {answer!r}")
    text = text.replace("static=True", "static=False")
    return text.replace("Known.UNANSWERED", "Known.AFTER")


def write_newsletter(folder, zone="", compress=False):
    """An invented log with semicolons, ISO times and decimal commas."""
    rows = ["customer;sent;medium;price;opened;age;campaign id"]
    rows += [
        f"c{k % 40};{(START + timedelta(minutes=7 * k)).isoformat()}{zone};{('mail', 'sms', 'push')[k % 3]};"
        f"{k % 9},{k % 10}5;{'yes' if k % 4 == 0 else 'no'};{20 + k % 40 % 9 if k % 11 else 'NULL'};camp {k % 5}"
        for k in range(400)
    ]
    content = "\n".join(rows).encode() + b"\n"
    (folder / "sent.csv").write_bytes(gzip.compress(content) if compress else content)


def write_events(folder):
    rows = ["event_time,kind_of_event,sku,price,visitor_id"]
    for k in range(300):
        kind = "purchase" if k % 10 == 9 else "view"
        sku = (k - k % 10) // 10 % 23 if kind == "purchase" else k // 10 % 23
        rows.append(f"{1_711_833_300 + 60 * k},{kind},s{sku},{k % 50}.5,{k // 10 % 30}")
    (folder / "events.csv").write_text("\n".join(rows) + "\n")


def write_impressions_and_clicks(folder):
    """Two tab-separated files with compact local times."""
    impressions = [
        f"{START + timedelta(minutes=k):%Y%m%d%H%M%S}\tb{k:04}\tcookie{k % 30}\t{k % 3 + 1}\t{k % 7}"
        for k in range(200)
    ]
    clicks = [f"b{k:04}\t{START + timedelta(minutes=k + 1):%Y%m%d%H%M%S}" for k in range(0, 200, 9)]
    (folder / "imp.20240330.txt").write_text(
        "\n".join(["timestamp\tbidid\tcookie_id\texchange\tregion", *impressions]) + "\n"
    )
    (folder / "clk.20240330.txt").write_text("\n".join(["bidid\tclicked_at", *clicks]) + "\n")


def write_headless(folder):
    rows = [f"{1_711_833_300_000 + 1000 * k}|{k % 30}|{k % 3}|{int(k % 5 == 0)}" for k in range(300)]
    (folder / "log.txt").write_text("\n".join(rows) + "\n")


def write_json_lines(folder):
    for k in range(300):
        record = {"ts": 1_711_833_300 + k, "user_id": f"u{k % 30}", "slot": f"s{k % 3}", "clicked": k % 5 == 0}
        with (folder / "log.jsonl").open("a") as file:
            file.write(f"{json.dumps(record)}\n")


EVERY_KIND = [write_newsletter, write_events, write_impressions_and_clicks, write_headless, write_json_lines]


@pytest.mark.parametrize("write", EVERY_KIND)
def test_a_draft_is_laid_out_as_ruff_does_and_passes_its_checks(tmp_path, write):
    write(tmp_path)
    text = drafted(tmp_path)
    for check in (["format", "--diff"], ["check", "--ignore", "I001"]):
        ruff = [sys.executable, "-m", "ruff", *check, "--line-length", "120", "--stdin-filename", "shop.py", "-"]
        result = subprocess.run(ruff, input=text, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("write", EVERY_KIND)
def test_a_draft_is_refused_with_one_line_until_it_is_answered(tmp_path, write):
    write(tmp_path)
    with pytest.raises(
        ValueError, match=r"^dataset shop: this is a draft with open questions .*are known of"
    ) as refusal:
        contract_in(drafted(tmp_path))
    assert "\n" not in str(refusal.value)


def test_a_newsletter_with_local_times(tmp_path):
    write_newsletter(tmp_path)
    text = drafted(tmp_path)
    with pytest.raises(
        ValueError, match=r"open questions .*: the time zone; when the values are known of opened, price"
    ):
        contract_in(text)
    dataset = contract_in(answered(text, ZONE="Europe/Berlin"))
    assert dataset.log.separator == ";"
    assert dataset.log.null_tokens == ("NULL",)
    assert dataset.user_id.duckdb_sql == "log.customer"
    assert dataset.channel == "log.medium"
    assert dataset.log_key == ("customer", "sent")
    assert dataset.gain_names == ("opened",)
    columns = {d.column.name: (d.column.dtype, d.duckdb_sql) for d in dataset.columns}
    assert columns["price"] == ("double", "try_cast(replace(log.price, ',', '.') AS double)")
    assert columns["campaign_id"] == ("string", 'log."campaign id"')
    assert "'Europe/Berlin'" in dataset.exposed_at_ms
    assert {d.column.known for d in dataset.columns if d.column.name in ("hour", "weekday")} == {Known.BEFORE}


def test_times_with_a_zone_ask_no_zone(tmp_path):
    write_newsletter(tmp_path, zone="+01:00", compress=True)
    with pytest.raises(ValueError, match=r"docs/own-log.md\): when the values"):
        contract_in(drafted(tmp_path))


def test_views_and_purchases_become_outcomes(tmp_path):
    write_events(tmp_path)
    text = drafted(tmp_path)
    dataset = contract_in(answered(text, channel="log.sku"))
    assert dataset.is_exposure == "log.kind_of_event IN ('view')"
    (outcome,) = dataset.outcomes
    assert (outcome.gain, outcome.match) == ("purchase", ("visitor_id", "sku"))
    assert set(outcome.match) < set(dataset.log_key)


def test_a_file_of_clicks_becomes_an_outcome_by_its_key(tmp_path):
    write_impressions_and_clicks(tmp_path)
    dataset = contract_in(answered(drafted(tmp_path), ZONE="Asia/Shanghai"))
    (outcome,) = dataset.outcomes
    assert (outcome.gain, outcome.match, outcome.file.patterns) == ("click", ("bidid",), ("clk.*.txt",))
    assert dataset.log_key == ("bidid", "timestamp")


def test_a_log_without_header_gets_names(tmp_path):
    write_headless(tmp_path)
    text = drafted(tmp_path)
    assert "header=False" in text
    for name in ("user_id", "channel"):
        with pytest.raises(ValueError, match=rf"open questions .*{name}"):
            contract_in(text)


def test_a_placeholder_of_unknown_users_is_no_user(tmp_path):
    rows = [f"{1_711_833_300 + k},{'a99f214a' if k % 3 else f'd{k}'},{k % 3},{k % 2}" for k in range(600)]
    (tmp_path / "train.csv").write_text("\n".join(["hour,device_id,banner_pos,click", *rows]) + "\n")
    assert contract_in(answered(drafted(tmp_path))).user_id.duckdb_sql == "nullif(log.device_id, 'a99f214a')"


def test_text_from_the_log_cannot_become_code(tmp_path):
    rows = [f'{1_711_833_300 + k},u{k % 30},"a\'b""c\\",{k % 2}' for k in range(100)]
    rows += [f"{1_711_833_900 + k},u{k % 30},x,{k % 2}" for k in range(100)]
    (tmp_path / "we\"ird'.csv").write_text("\n".join(["ts,user,slot's `(\\n),click", *rows]) + "\n")
    dataset = contract_in(answered(drafted(tmp_path)))
    assert dataset.channel == 'log."slot\'s `(\\n)"'
    assert dataset.log.patterns == ("we\"ird'*.csv",)


def test_a_key_that_is_a_number_in_one_file_and_a_word_in_the_other_is_text_in_both(tmp_path):
    rows = [f"{1_711_833_300 + k},{k % 30},{('top', 'side')[k % 2]},{k % 5 // 4}" for k in range(100)]
    (tmp_path / "log.csv").write_text("\n".join(["ts,user_id,slot,click", *rows]) + "\n")
    users = [f"{k},{20 + k}" for k in range(30)] + ["guest,0", "robot,0"]
    (tmp_path / "users.csv").write_text("\n".join(["user_id,age", *users]) + "\n")
    dataset = contract_in(answered(drafted(tmp_path)))
    assert dataset.user_id.column.dtype == "string"
    assert {column.dtype for file in dataset.raw_files for column in file.columns if column.name == "user_id"} == {
        "string"
    }


def test_a_further_time_can_say_when_a_gain_becomes_known(tmp_path):
    rows = ["user_id,shown_at,slot,bought,bought_at"]
    rows += [
        f"u{k % 30},{1_711_833_300 + 60 * k},{'ab'[k % 2]},{int(k % 5 == 0)},"
        f"{f'2024-04-01 {k % 24:02}:00:00' if k % 5 == 0 else ''}"
        for k in range(200)
    ]
    (tmp_path / "log.csv").write_text("\n".join(rows) + "\n")
    text = drafted(tmp_path)
    assert '# A gain that becomes known at this time: Known.AT, known_at="bought_at_ms".' in text
    assert "Left out" not in text
    text = text.replace("Known.UNANSWERED)", 'Known.AT, known_at="bought_at_ms")')
    dataset = contract_in(answered(text, ZONE="UTC"))
    assert dataset.late_gain_times == {"bought": "bought_at_ms"}


def test_a_time_that_only_some_rows_have_becomes_a_gain(tmp_path):
    rows = ["user_id,shown_at,slot,clicked,converted_at,order_value"]
    rows += [
        f"u{k % 30},{1_711_833_300 + 60 * k},{'ab'[k % 2]},{int(k % 5 == 0)},"
        + (f"{1_711_920_000 + k},9.5" if k % 10 == 0 else ",")
        for k in range(200)
    ]
    (tmp_path / "log.csv").write_text("\n".join(rows) + "\n")
    text = drafted(tmp_path)
    assert "converted (yes in 10.00%, which have converted_at)" in " ".join(text.replace("#", "").split())
    assert 'Known.AT, known_at="converted_at_ms", unless' in text
    text = text.replace(
        '"1 if there is converted_at", Known.UNANSWERED', '"1 if it converted", Known.AT, known_at="converted_at_ms"'
    )
    dataset = contract_in(answered(text))
    assert dataset.gain_names == ("clicked", "converted")
    assert dataset.late_gain_times == {"converted": "converted_at_ms"}


def test_a_key_of_a_side_table_is_a_category_and_not_an_amount(tmp_path):
    (tmp_path / "shown.dat").write_text(
        "".join(
            f"u{k % 40}|{k * 7 % 90}|{20240331100000 + k % 60}|{'ab'[k % 2]}|{k % 90}|{k % 3 // 2}\n"
            for k in range(300)
        )
    )
    (tmp_path / "films.dat").write_text("".join(f"{k}|Film {k}|{1950 + k}\n" for k in range(90)))
    text = " ".join(drafted(tmp_path).split())
    assert '_category("column_2", "column_2 of log", Known.UNANSWERED, "cast(log.column_2 AS varchar)")' in text
    assert '_number("column_5"' in text


def test_days_in_folders_and_side_tables_beside_them(tmp_path):
    for day in range(3):
        folder = tmp_path / f"day=2024-05-0{day + 1}"
        folder.mkdir()
        rows = [f"{1_714_521_600 + 86_400 * day + k},u{k % 9},{'ab'[k % 2]},{k % 3 // 2}" for k in range(40)]
        (folder / "part-0.csv").write_text("\n".join(["ts,user,slot,click", *rows]) + "\n")
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "part-0.csv").write_text("user,age\n" + "".join(f"u{k},{20 + k}\n" for k in range(9)))
    (tmp_path / "_delta_log").mkdir()
    (tmp_path / "_delta_log" / "0.json").write_text("{}")
    dataset = contract_in(answered(drafted(tmp_path)))
    assert dataset.log.patterns == ("day=*/part-*.csv",)
    (lookup,) = dataset.lookups
    assert (lookup.file.view, lookup.file.patterns) == ("users", ("users/part-*.csv",))
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob(dataset.log.patterns[0]))
    assert names == [f"day=2024-05-0{day}/part-0.csv" for day in (1, 2, 3)]


def test_names_of_files_and_columns_cannot_end_the_docstring_or_reach_a_terminal(tmp_path):
    rows = [f"{1_711_833_300 + k},u{k % 30},{'xyz'[k % 3]},{k % 2}" for k in range(100)]
    (tmp_path / '\x1b[2J"""\\.csv').write_text("\n".join(["ts,user,sl\x1b[31mot,click", *rows]) + "\n")
    text = drafted(tmp_path)
    assert text.replace("\n", "").isprintable()
    dataset = contract_in(answered(text, channel='log."sl\x1b[31mot"'))
    assert dataset.log.columns[2].name == "sl\x1b[31mot"


def test_a_column_of_outcome_rows_alone_is_left_out(tmp_path):
    rows = ["ts,visitor_id,event,item,amount"]
    for k in range(200):
        is_purchase = k % 5 == 4
        event, amount = ("purchase", "9.5") if is_purchase else ("view", "")
        rows.append(f"{1_711_833_300 + 60 * k},{k // 5 % 30},{event},i{k // 5},{amount}")
    (tmp_path / "events.csv").write_text("\n".join(rows) + "\n")
    text = drafted(tmp_path)
    assert "Left out: amount (only in rows of outcomes)" in " ".join(text.replace("#", "").split())
    assert '"amount of log"' not in text
