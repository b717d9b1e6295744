"""Go back to an earlier champion: from now on every scoring uses it.

python -m mtorl_model.rollback --dataset D --lake LAKE [--version mtorl_D/3] [--method mtorl]

Without --version: to the champion before the present one. All versions that became champion later are withdrawn: no
later day is fine-tuned from them, and another run of their day does not promote them. A withdrawn version that is named
by --version becomes champion again. Published policies stay unchanged; if another model made those of the newest day, a
line tells how to score that day again.
"""

import argparse
from dataclasses import replace

from lakehouse.arguments import add_lake
from lakehouse.lake import Lake
from mtorl_model.arguments import add_method
from mtorl_model.champion.export import export_for_daily_run
from mtorl_model.champion.registry import Registry, previous_champion
from mtorl_model.methods import METHODS
from schemas.dataset import get_dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.tables import JOURNEYS


def roll_back(registry: Registry, name: str | None) -> str:
    """Make the named version (None: the previous champion) champion again; returns a line for the terminal.

    Raises UserError if the version was never champion or its files are damaged, and Busy if another decision has come
    first.
    """
    dataset, seen = registry.dataset, registry.decided()
    champion = registry.champion()
    champions = sorted((v for v in seen if v.reign and not v.expired), key=lambda v: v.reign)
    if name is None:
        previous = previous_champion(seen)
        if previous is None:
            raise UserError(f"{champion.name} is the first champion of {dataset.name}: no earlier one exists")
        target = previous
    else:
        named = [v for v in champions if v.name == name]
        if not named:
            listed = ", ".join(v.name for v in champions)
            raise UserError(f"{name} has never been champion of {dataset.name}: choose one of {listed}")
        (target,) = named
    registry.spec_of(target)  # raises UserError if its files are damaged
    later = [v for v in champions if v.reign > target.reign and not v.withdrawn]
    withdrawals = [replace(version, withdrawn=True, is_champion=False) for version in later]
    # The target keeps its reign: a further rollback returns to its predecessor.
    registry.decide([*withdrawals, replace(target, is_champion=True, withdrawn=False)], seen=seen)
    export_for_daily_run(registry)
    withdrawn = f"; withdrawn: {', '.join(v.name for v in later)}" if later else ""
    return f"{target.name}, trained through {target.day}, is the champion of {dataset.name}{withdrawn}"


def still_issued(registry: Registry) -> str | None:
    """A line for the terminal if the newest day's scores are another version's of this method, otherwise None.

    The scores of earlier days stay unchanged after a rollback.
    """
    lake, dataset = registry.lake, registry.dataset
    table = METHODS[registry.method].publishes[0]
    days = lake.days(JOURNEYS, dataset)
    issued = lake[table, dataset, days[-1]].manifest if days else None
    made_by = issued.inputs["model"] if issued else ""
    if issued is None or not made_by.startswith(f"{registry.model}/") or made_by == registry.champion().name:
        return None
    return (
        f"the table {table} of {issued.ds} was made by {made_by}; to score that day again, run: "
        f"make backfill DATASET={dataset.name} FROM={issued.ds} TO={issued.ds}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    add_lake(parser)
    parser.add_argument("--version", help="e.g. mtorl_kuairand/3; default: the previous champion")
    add_method(parser)
    args = parser.parse_args()
    registry = Registry(Lake(args.lake), get_dataset(args.dataset), args.method)
    print(roll_back(registry, args.version))
    if line := still_issued(registry):
        print(line)


if __name__ == "__main__":
    exit_with_one_line(main)
