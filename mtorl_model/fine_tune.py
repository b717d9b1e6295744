"""A day's learning: the champion is tested on the day, which is new to it, and then fine-tuned into a challenger.

python -m mtorl_model.fine_tune --dataset D --lake DIR --day DAY [--learning-rate R] [--max-steps N]
    [--correction likelihood] [--device auto] [--method mtorl]

Publishes `prequential` of the day and registers the challenger (champion/day_learning.py). promote.py decides whether
it becomes champion.
"""

from dataclasses import replace

from lakehouse.arguments import day_parser
from lakehouse.lake import Lake
from mtorl_model.arguments import add_method
from mtorl_model.champion.day_learning import learn_day
from mtorl_model.champion.registry import Registry
from mtorl_model.data.delayed_feedback import CORRECTIONS, FeedbackConfig
from mtorl_model.training.config import FineTuneConfig
from schemas.dataset import get_dataset
from schemas.days import checked_day
from schemas.errors import exit_with_one_line


def main() -> None:
    parser = day_parser(__doc__)
    config, feedback = FineTuneConfig(), FeedbackConfig()
    parser.add_argument("--learning-rate", type=float, default=config.learning_rate, help="default %(default)s")
    parser.add_argument("--max-steps", type=int, default=config.max_steps, help="default %(default)s")
    parser.add_argument("--correction", default=feedback.correction, choices=CORRECTIONS, help="default %(default)s")
    parser.add_argument("--device", default=config.device, choices=("auto", "cpu", "cuda"))
    add_method(parser)
    args = parser.parse_args()
    config = replace(config, learning_rate=args.learning_rate, max_steps=args.max_steps, device=args.device)
    feedback = replace(feedback, correction=args.correction)
    registry = Registry(Lake(args.lake), get_dataset(args.dataset), args.method)
    lines = learn_day(registry, checked_day(args.day), config, feedback)
    print("\n".join(lines))


if __name__ == "__main__":
    exit_with_one_line(main)
