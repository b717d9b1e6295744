"""How often the gate errs, by the size of the log: refuses what is no worse, promotes what is.

python -m mtorl_model.studies.gate --dataset D --lake LAKE --one mtorl_D/1 --other mtorl_D/2 --from DAY --to DAY
    [--margin 0.01] [--worst 3] [--draws 400] [--seed 0]

Takes the differences of two versions at the labels of the validation users as they are, users whole, and shifts them
so that their mean is a chosen number of margins: 0 is a challenger that is neither better nor worse. Then draws logs
of some multiple of the users, and asks the gate's rule about each.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lakehouse.lake import Lake
from mtorl_model.champion.gate import GateConfig, is_not_worse
from mtorl_model.champion.registry import load_named
from mtorl_model.data.split_windows import days_cut_with
from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate
from mtorl_model.evaluation.comparison import Difference, compare, head_losses
from schemas.dataset import get_dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.splits import VALIDATION

Floats = npt.NDArray[np.float64]
TRUTHS = (-1.0, 0.0, 1.0, 2.0, 3.0)  # by how many margins the challenger is worse
SIZES = (0.25, 1.0, 4.0)  # users, relative to those that there are
_REPLICATES = 200


def promoted_share(
    loss_U: Floats, difference_U: Floats, labels_U: Floats, truth: float, size: float, gate: GateConfig, draws: int,
    seed: int,
) -> float:  # fmt: skip
    """Share of drawn logs in which the rule lets the head pass. Arguments with _U: sums over each user's labels."""
    mean_loss = loss_U.sum() / labels_U.sum()
    wanted = truth * gate.margin * mean_loss
    shifted_U = difference_U + (wanted - difference_U.sum() / labels_U.sum()) * labels_U
    rng = np.random.default_rng(seed)
    passed = 0
    for draw in range(draws):
        users = rng.integers(0, len(labels_U), round(size * len(labels_U)))
        boot = UserBootstrap(np.arange(len(users)), replicates=_REPLICATES, seed=draw)
        sums = boot.sums(np.stack([shifted_U[users], loss_U[users], labels_U[users]], axis=1)).T
        found = estimate(sums[0] / sums[2])
        one = float(sums[1][0] / sums[2][0])
        value = float(sums[0][0] / sums[2][0])
        passed += is_not_worse(Difference("", 0, 0, one, one + value, value, found["low"], found["high"]), gate)
    return passed / draws


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--lake", required=True, type=Path)
    parser.add_argument("--one", required=True, metavar="VERSION")
    parser.add_argument("--other", required=True, metavar="VERSION")
    parser.add_argument("--from", dest="first_day", metavar="DAY")
    parser.add_argument("--to", dest="last_day", metavar="DAY")
    parser.add_argument("--margin", type=float, default=GateConfig().margin, help="default %(default)s")
    parser.add_argument("--worst", type=float, default=GateConfig().worst, help="default %(default)s")
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    lake, dataset, gate = Lake(args.lake), get_dataset(args.dataset), GateConfig(margin=args.margin, worst=args.worst)
    one, other = (load_named(lake, dataset, name) for name in (args.one, args.other))
    days = days_cut_with(lake, dataset, one.spec.version, args.first_day, args.last_day)
    compared = compare(lake, dataset, one, other, days, VALIDATION)
    if compared is None:
        raise UserError(f"no validation user of {dataset.name} has a label from {args.first_day} to {args.last_day}")
    _, user_N = np.unique(compared.one.user_N, return_inverse=True)
    labels_U = np.bincount(user_N).astype(np.float64)
    print(f"{len(labels_U)} validation users, {int(labels_U.sum()):,} labels; share of challengers that pass, by truth")
    print(f"{'head':<12}{'users':>8}" + "".join(f"{truth:>+7.0f} m" for truth in TRUTHS))
    other_losses = head_losses(compared.other, other)
    for head, (one_N, _) in head_losses(compared.one, one).items():
        if head not in other_losses:
            continue
        loss_U, difference_U = (
            np.bincount(user_N, weights=w).astype(np.float64) for w in (one_N, other_losses[head][0] - one_N)
        )
        for size in SIZES:
            shares = [
                promoted_share(loss_U, difference_U, labels_U, truth, size, gate, args.draws, args.seed)
                for truth in TRUTHS
            ]
            users = round(size * len(labels_U))
            print(f"{head:<12}{users:>8}" + "".join(f"{share:>9.2f}" for share in shares))


if __name__ == "__main__":
    exit_with_one_line(main)
