"""The gate of a day: the day's challenger becomes champion if it is not worse (champion/gate.py).

python -m mtorl_model.promote --dataset D --lake DIR --day DAY

A day is decided once against a champion: run again, it says what was decided.
"""

from lakehouse.paths import Lake, checked_day
from mtorl_model.arguments import parser_of_a_day
from mtorl_model.champion.gate import GateConfig, decide
from mtorl_model.data.delayed_feedback import FeedbackConfig
from schemas.dataset import get_dataset
from schemas.errors import exit_with_one_line


def main() -> None:
    parser = parser_of_a_day(__doc__)
    args = parser.parse_args()
    lines = decide(Lake(args.lake), get_dataset(args.dataset), checked_day(args.day), GateConfig(), FeedbackConfig())
    print("\n".join(lines))


if __name__ == "__main__":
    exit_with_one_line(main)
