"""Write a simulated log in a published raw layout, e.g. python -m jobs.generate_log --layout kuairand --out DIR.

The same arguments give the same bytes. With --truth, DIR/_truth has the probabilities behind each log; see
jobs/generator/truth.py for its columns and jobs/generator/behaviour.py for the equations.
"""

import argparse
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from jobs.generator.behaviour import CHANNEL_EFFECTS
from jobs.generator.criteo import write_criteo
from jobs.generator.kuairand import RANDOM_FROM, write_kuairand
from jobs.generator.size import Size
from schemas.days import checked_day
from schemas.errors import UserError, exit_with_one_line

_USERS = 1_500
_DAYS = 7
_ROWS_PER_USER = 20


def main() -> None:
    args = _arguments()
    size = _size(args)
    with _whole_folder(args.out.resolve()) as folder:
        if args.layout == "kuairand":
            first_day = checked_day(args.first_day or RANDOM_FROM)
            effect = CHANNEL_EFFECTS[args.channel_effect]
            standard = not args.no_standard_log
            rows = write_kuairand(folder, size, first_day, standard=standard, truth=args.truth, effect=effect)
        else:
            if args.first_day or args.no_standard_log:
                raise UserError("--first-day and --no-standard-log belong to the kuairand layout; criteo has neither")
            rows = write_criteo(folder, size, truth=args.truth, effect=CHANNEL_EFFECTS[args.channel_effect])
    print(f"{args.out}: {rows:,} rows of {size.users:,} simulated users over {size.days} days (seed {size.seed})")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see --help)")


def _arguments() -> argparse.Namespace:
    parser = _Parser(prog="python -m jobs.generate_log", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layout", required=True, choices=("kuairand", "criteo"))
    parser.add_argument("--out", required=True, type=Path, help="folder to create; must not exist, or must be empty")
    parser.add_argument("--users", type=int, help=f"default {_USERS}, or rows / {_ROWS_PER_USER}")
    parser.add_argument("--rows", type=int, help=f"approximate number; default {_ROWS_PER_USER} per user")
    parser.add_argument("--days", type=int, default=_DAYS, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="other users in the same world; default %(default)s")
    parser.add_argument("--first-day", help=f"kuairand: YYYY-MM-DD, default {RANDOM_FROM}")
    parser.add_argument("--no-standard-log", action="store_true", help="kuairand: random exposures only")
    parser.add_argument("--channel-effect", choices=CHANNEL_EFFECTS, default="medium",
                        help="how much the best channel differs between users; default %(default)s")  # fmt: skip
    parser.add_argument("--truth", action="store_true", help="also write the true probabilities, to DIR/_truth")
    return parser.parse_args()


def _size(args: argparse.Namespace) -> Size:
    users, rows = args.users, args.rows
    if users is None:
        users = _USERS if rows is None else max(1, rows // _ROWS_PER_USER)
    return Size(users, args.days, users * _ROWS_PER_USER if rows is None else rows, args.seed)


@contextmanager
def _whole_folder(target: Path) -> Iterator[Path]:
    """A folder to write to, which becomes `target` once everything is written. It is removed after a failure."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is not an empty folder: choose another --out, or empty it first")
    staged = target.parent / f".{target.name}.{uuid.uuid4().hex}"
    staged.mkdir(parents=True)
    try:
        yield staged
        shutil.rmtree(staged / ".scratch")
        staged.rename(target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


if __name__ == "__main__":
    exit_with_one_line(main)
