"""The flags that entry points share."""

from argparse import ArgumentParser

import pytest

from lakehouse.arguments import (
    add_day_range,
    add_lake,
    add_this_code,
    dataset_of,
    dataset_parser,
    day_parser,
    day_range_of,
    lake_of,
    require_at_least,
    required_code_of,
)
from lakehouse.code_version import code_version
from lakehouse.lake import Lake
from schemas.dataset import get_dataset
from schemas.errors import UserError


def full_parser() -> ArgumentParser:
    parser = dataset_parser("Builds a table.\n\n    python -m jobs.build --dataset NAME\n")
    add_lake(parser)
    add_day_range(parser)
    add_this_code(parser)
    return parser


def test_flags_become_values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = full_parser().parse_args(["--dataset", "criteo", "--lake", "lake", "--to", "2017-01-05", "--this-code"])
    assert dataset_of(args) is get_dataset("criteo")
    assert lake_of(args) == Lake(tmp_path / "lake")
    assert day_range_of(args) == (None, "2017-01-05")
    assert required_code_of(args, "jobs") == code_version("jobs")


def test_any_code_version_is_accepted_without_the_flag():
    args = full_parser().parse_args(["--dataset", "criteo", "--lake", "lake"])
    assert required_code_of(args, "jobs") is None


@pytest.mark.parametrize(
    ("flags", "read", "message"),
    [(["--from", "5 January"], day_range_of, "is not a day"), (["--dataset", "nosuch"], dataset_of, "unknown dataset")],
)
def test_a_value_that_cannot_be_used_is_a_user_error(flags, read, message):
    args = full_parser().parse_args(["--dataset", "criteo", "--lake", "lake", *flags])
    with pytest.raises(UserError, match=message):
        read(args)


def test_a_day_is_required_of_a_step_that_builds_one_day(capsys):
    assert day_parser("").parse_args(["--dataset", "criteo", "--lake", "lake", "--day", "2017-01-05"]).day
    with pytest.raises(SystemExit):
        day_parser("").parse_args(["--dataset", "criteo", "--lake", "lake"])
    assert "--day" in capsys.readouterr().err


def test_help_prints_the_docstring_unchanged():
    assert "Builds a table.\n\n    python -m jobs.build --dataset NAME\n" in full_parser().format_help()


def test_a_value_below_its_minimum_is_refused():
    parser = ArgumentParser()
    parser.add_argument("--max-epochs", type=int)
    require_at_least(parser.parse_args(["--max-epochs", "1"]), max_epochs=1)
    require_at_least(parser.parse_args([]), max_epochs=1)
    with pytest.raises(UserError, match="--max-epochs 0: at least 1"):
        require_at_least(parser.parse_args(["--max-epochs", "0"]), max_epochs=1)
