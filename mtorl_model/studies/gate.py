"""The gate's errors by the size of the log: refused challengers that are not worse, and promoted ones that are.

python -m mtorl_model.studies.gate --dataset D --lake LAKE --base mtorl_D/1 --candidate mtorl_D/2 --from DAY --to DAY
    [--margin 0.01] [--worst 3] [--draws 400] [--seed 0]

The study measures the loss differences of two versions at the labels of the validation users, and shifts them so that
their mean is a chosen number of margins. (With 0 margins the challenger is neither better nor worse.) Then it draws
logs with a multiple of the users, each user with all labels, and applies the rule of the gate to each log.
"""

import numpy as np
import numpy.typing as npt

from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of
from mtorl_model.champion.gate_rule import GateConfig, is_not_worse
from mtorl_model.champion.registry import load_named
from mtorl_model.data.windows.splits import days_with_windows
from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate
from mtorl_model.evaluation.comparison import Difference, compare, head_losses
from schemas.errors import UserError, exit_with_one_line
from schemas.splits import VALIDATION

Floats = npt.NDArray[np.float64]
MARGINS = (-1.0, 0.0, 1.0, 2.0, 3.0)  # by how many margins the challenger is truly worse
SIZES = (0.25, 1.0, 4.0)  # users, relative to the validation users
_REPLICATES = 200


def promoted_share(
    loss_U: Floats,
    difference_U: Floats,
    labels_U: Floats,
    margins: float,
    size: float,
    gate: GateConfig,
    draws: int,
    seed: int,
) -> float:
    """The share of drawn logs in which the head passes the rule. Arguments with _U: sums over each user's labels."""
    mean_loss = loss_U.sum() / labels_U.sum()
    true_difference = margins * gate.margin * mean_loss
    shifted_U = difference_U + (true_difference - difference_U.sum() / labels_U.sum()) * labels_U
    rng = np.random.default_rng(seed)
    passed = 0
    for draw in range(draws):
        users = rng.integers(0, len(labels_U), round(size * len(labels_U)))
        bootstrap = UserBootstrap(np.arange(len(users)), replicates=_REPLICATES, seed=draw)
        sums = bootstrap.sums(np.stack([shifted_U[users], loss_U[users], labels_U[users]], axis=1)).T
        interval = estimate(sums[0] / sums[2])
        champion_loss, difference = float(sums[1][0] / sums[2][0]), float(sums[0][0] / sums[2][0])
        challenger_loss = champion_loss + difference
        passed += is_not_worse(
            Difference("", 0, 0, champion_loss, challenger_loss, difference, interval["low"], interval["high"]), gate
        )
    return passed / draws


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    parser.add_argument("--base", required=True, metavar="VERSION")
    parser.add_argument("--candidate", required=True, metavar="VERSION")
    parser.add_argument("--from", dest="first_day", metavar="DAY")
    parser.add_argument("--to", dest="last_day", metavar="DAY")
    parser.add_argument("--margin", type=float, default=GateConfig().margin, help="default %(default)s")
    parser.add_argument("--worst", type=float, default=GateConfig().worst, help="default %(default)s")
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    lake, dataset, gate = lake_of(args), dataset_of(args), GateConfig(margin=args.margin, worst=args.worst)
    champion, challenger = (load_named(lake, dataset, name) for name in (args.base, args.candidate))
    days = days_with_windows(lake, dataset, args.first_day, args.last_day)
    compared = compare(lake, dataset, champion, challenger, days, VALIDATION)
    if compared is None:
        raise UserError(f"no validation user of {dataset.name} has a label from {args.first_day} to {args.last_day}")
    _, user_N = np.unique(compared.base.user_N, return_inverse=True)
    labels_U = np.bincount(user_N).astype(np.float64)
    print(f"{len(labels_U)} validation users, {int(labels_U.sum()):,} labels; share of challengers that pass, by how")
    print("many margins (m) they are truly worse")
    print(f"{'head':<12}{'users':>8}" + "".join(f"{margins:>+7.0f} m" for margins in MARGINS))
    challenger_losses = head_losses(compared.candidate, challenger)
    for head, (champion_N, _) in head_losses(compared.base, champion).items():
        if head not in challenger_losses:
            continue
        challenger_N, _ = challenger_losses[head]
        loss_U, difference_U = (
            np.bincount(user_N, weights=values_N).astype(np.float64)
            for values_N in (champion_N, challenger_N - champion_N)
        )
        for size in SIZES:
            shares = [
                promoted_share(loss_U, difference_U, labels_U, margins, size, gate, args.draws, args.seed)
                for margins in MARGINS
            ]
            users = round(size * len(labels_U))
            print(f"{head:<12}{users:>8}" + "".join(f"{share:>9.2f}" for share in shares))


if __name__ == "__main__":
    exit_with_one_line(main)
