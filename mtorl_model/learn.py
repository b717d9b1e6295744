"""A day's learning in the daily run: fine_tune.py, then promote.py, in one process.

python -m mtorl_model.learn --dataset D --lake DIR --day DAY [--device auto] [--method mtorl]

A second process would take longer to import torch and MLflow than the gate itself. After a failure or a kill, run it
again: finished tests, trainings and decisions are not repeated. A method without fine-tuning is only tested.
"""

from dataclasses import replace

from lakehouse.arguments import day_parser
from lakehouse.lake import Lake
from mtorl_model.arguments import add_method
from mtorl_model.champion.day_learning import learn_day
from mtorl_model.champion.gate import decide
from mtorl_model.champion.gate_rule import GateConfig
from mtorl_model.champion.registry import Registry
from mtorl_model.data.delayed_feedback import FeedbackConfig
from mtorl_model.training.config import FineTuneConfig
from schemas.dataset import get_dataset
from schemas.days import checked_day
from schemas.errors import exit_with_one_line


def main() -> None:
    parser = day_parser(__doc__)
    config, feedback = FineTuneConfig(), FeedbackConfig()
    parser.add_argument("--device", default=config.device, choices=("auto", "cpu", "cuda"))
    add_method(parser)
    args = parser.parse_args()
    registry, day = Registry(Lake(args.lake), get_dataset(args.dataset), args.method), checked_day(args.day)
    config = replace(config, device=args.device)
    print(
        "\n".join(learn_day(registry, day, config, feedback)), flush=True
    )  # printed first, because the gate may raise an error
    print("\n".join(decide(registry, day, GateConfig(), feedback)))


if __name__ == "__main__":
    exit_with_one_line(main)
