"""Write a first draft of the contract of a log from a sample of its files.

    python -m jobs.draft_contract --raw DIR --name NAME [--user COLUMN] [--channel COLUMN] [--gain COLUMN ...]
        [--out FILE]

Reads up to 10,000 rows of each kind of file in DIR and writes schemas/datasets/NAME.py: separators, types, times, null
tokens, and candidates for user, time, channel, gains and key, each with the reason. It leaves questions that only a
person can answer; the log cannot be read until they are answered. docs/own-log.md is the walk through.
"""

import argparse
import re
from pathlib import Path

from jobs.draft.contract_draft import draft_of
from jobs.draft.module_text import module_text
from jobs.draft.sample import sampled_folder
from lakehouse.arguments import add_raw
from lakehouse.storage.files import write_whole
from schemas import datasets
from schemas.dataset import dataset_names
from schemas.errors import UserError, exit_with_one_line
from schemas.printable import counted

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_raw(parser)
    parser.add_argument("--name", required=True, help="name of the new dataset: a-z, 0-9 and _")
    parser.add_argument("--user", default="", help="the log's column of the user, if an earlier draft has not found it")
    parser.add_argument("--channel", default="", help="the log's column of the channel, as --user")
    parser.add_argument("--gain", nargs="+", default=[], metavar="COLUMN", help="columns of yes and no, as --user")
    parser.add_argument("--out", type=Path, help="the file to write; default: schemas/datasets/NAME.py")
    args = parser.parse_args()
    path = args.out or Path(datasets.__path__[0]) / f"{args.name}.py"
    check_name(args.name, path)
    tables, notes = sampled_folder(args.raw)
    draft = draft_of(args.name, tables, args.user, args.channel, args.gain)
    text = module_text(draft)
    write_whole(path, text)
    for note in notes:
        print(f"note: not part of the draft: {note}")
    if damaged := sum(table.damaged for table in tables):
        print(
            f"note: left out of the sample: {counted(damaged, 'row')} with another number of fields, or no JSON object"
        )
    print(f"{path}: a draft from {counted(draft.log.rows, 'row')} of {', '.join(draft.log.file_names[:3])}")
    number = open_questions(text)
    print(f"{counted(number, 'open question')}: answer each UNANSWERED as docs/own-log.md explains, then run")
    print(f"python -m jobs.check_contract --dataset {args.name} --raw {args.raw}")


def open_questions(text: str) -> int:
    """The number of UNANSWERED in a drafted module; its docstring and its imports have the word as well."""
    lines = [line for line in text.splitlines() if not line.startswith(("A person", "from "))]
    return sum(line.count("UNANSWERED") for line in lines)


def check_name(name: str, path: Path) -> None:
    """Raises UserError if the name cannot be used, or belongs to a dataset or a file that exists."""
    if not _NAME.fullmatch(name):
        raise UserError(f"--name {name!r}: use a-z, 0-9 and _, and begin with a letter")
    if name in dataset_names():
        raise UserError(f"there is a dataset {name} already: choose another --name")
    if path.exists():
        raise UserError(f"{path} exists already: delete it first, or choose another --name")


if __name__ == "__main__":
    exit_with_one_line(main)
