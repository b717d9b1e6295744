"""Go back to an earlier champion: from now on every scoring uses it.

python -m mtorl_model.rollback --dataset D --lake LAKE [--version mtorl_D/3] [--method mtorl]

Without --version: to the champion before the present one. All that became champion after the chosen version is
withdrawn: no later day is fine-tuned from it, and no rerun of its day promotes it again. Naming a withdrawn version
brings it back. The policies that are issued already stay; a line says where the newest day's are of another model.
"""

import argparse
from pathlib import Path

from lakehouse.lake import Lake
from mtorl_model.arguments import add_method
from mtorl_model.champion.export import export_for_daily_run
from mtorl_model.champion.registry import Registry
from schemas.dataset import get_dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.tables import CHANNEL_POLICIES, JOURNEYS


def roll_back(registry: Registry, name: str | None) -> str:
    """Make the named version (None: the champion before) champion again; a line about it.

    Killed in between and started again, it ends the same. Raises UserError where the version was never champion.
    """
    dataset = registry.dataset
    with registry.lock():
        now = registry.champion()
        been = sorted((v for v in registry.versions() if v.reign), key=lambda v: v.reign)
        if name is None:
            earlier = [v for v in been if v.reign < now.reign and not v.withdrawn]
            if not earlier:
                raise UserError(f"{now.name} is the first champion of {dataset.name}: there is none to go back to")
            target = earlier[-1]
        else:
            named = [v for v in been if v.name == name]
            if not named:
                listed = ", ".join(v.name for v in been)
                raise UserError(f"{name} has never been champion of {dataset.name}: choose one of {listed}")
            (target,) = named
        later = [v for v in been if v.reign > target.reign and not v.withdrawn]
        for version in later:
            registry.set_tag(version, "withdrawn", f"rolled back to {target.name}")
        registry.make_champion(target, back=True)
        export_for_daily_run(registry)
    withdrawn = f"; withdrawn: {', '.join(v.name for v in later)}" if later else ""
    return f"{target.name}, trained through {target.day}, is the champion of {dataset.name}{withdrawn}"


def still_issued(registry: Registry) -> str | None:
    """A line where the newest day's policies are of another model than the champion, else None.

    Earlier days' policies stay as they were issued.
    """
    lake, dataset = registry.lake, registry.dataset
    days = lake.days(JOURNEYS, dataset)
    issued = lake[CHANNEL_POLICIES, dataset, days[-1]].manifest if days else None
    if issued is None or issued.inputs["model"] == registry.champion().name:
        return None
    return (
        f"the policies of {issued.ds} are of {issued.inputs['model']} until that day has its nightly run again: "
        f"make backfill DATASET={dataset.name} FROM={issued.ds} TO={issued.ds}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--lake", required=True, type=Path)
    parser.add_argument("--version", help="e.g. mtorl_kuairand/3; left out: the champion before")
    add_method(parser)
    args = parser.parse_args()
    registry = Registry(Lake(args.lake), get_dataset(args.dataset), args.method)
    print(roll_back(registry, args.version))
    if line := still_issued(registry):
        print(line)


if __name__ == "__main__":
    exit_with_one_line(main)
