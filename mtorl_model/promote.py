"""The gate of a day: the day's challenger becomes champion if it is not worse (champion/gate.py).

python -m mtorl_model.promote --dataset D --lake DIR --day DAY [--method mtorl]

A day is decided once for each champion; another run prints the earlier decision.
"""

from lakehouse.arguments import day_parser
from lakehouse.lake import Lake
from mtorl_model.arguments import add_method
from mtorl_model.champion.gate import decide
from mtorl_model.champion.gate_rule import GateConfig
from mtorl_model.champion.registry import Registry
from mtorl_model.data.delayed_feedback import FeedbackConfig
from schemas.dataset import get_dataset
from schemas.days import checked_day
from schemas.errors import exit_with_one_line


def main() -> None:
    parser = day_parser(__doc__)
    add_method(parser)
    args = parser.parse_args()
    registry = Registry(Lake(args.lake), get_dataset(args.dataset), args.method)
    lines = decide(registry, checked_day(args.day), GateConfig(), FeedbackConfig())
    print("\n".join(lines))


if __name__ == "__main__":
    exit_with_one_line(main)
