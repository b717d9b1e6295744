"""A day's learning in the daily run: fine_tune.py, then promote.py, in one process.

python -m mtorl_model.learn --dataset D --lake DIR --day DAY [--device auto] [--method mtorl,rmtl]

A second process would take longer to import torch and MLflow than the gate itself. Each method has its own champion and
challenger. After a failure or a kill, run it again: finished tests, trainings and decisions are not repeated. A method
without fine-tuning is only tested.
"""

from dataclasses import replace

from lakehouse.arguments import day_parser
from lakehouse.lake import Lake
from mtorl_model.arguments import add_methods, for_each, methods_of
from mtorl_model.champion.day_learning import learn_day
from mtorl_model.champion.gate import decide
from mtorl_model.champion.gate_rule import GateConfig
from mtorl_model.champion.registry import Registry
from mtorl_model.data.delayed_feedback import FeedbackConfig
from mtorl_model.training.config import FineTuneConfig
from schemas.dataset import get_dataset
from schemas.days import checked_day
from schemas.errors import ALERT, exit_with_one_line


def main() -> None:
    parser = day_parser(__doc__)
    config = FineTuneConfig()
    parser.add_argument("--device", default=config.device, choices=("auto", "cpu", "cuda"))
    add_methods(parser)
    args = parser.parse_args()
    lake, dataset, day = Lake(args.lake), get_dataset(args.dataset), checked_day(args.day)
    config = replace(config, device=args.device)
    alerts: list[str] = []
    for_each(methods_of(args), lambda method: alerts.extend(_learn(Registry(lake, dataset, method), day, config)))
    if alerts:
        print(ALERT + "; ".join(alerts))


def _learn(registry: Registry, day: str, config: FineTuneConfig) -> list[str]:
    """Test, fine-tune and decide; prints lines, and returns the requests to people."""
    feedback = FeedbackConfig()
    # Printed first, because the gate may raise an error.
    print("\n".join(learn_day(registry, day, config, feedback)), flush=True)
    lines = decide(registry, day, GateConfig(), feedback)
    print("\n".join(line for line in lines if not line.startswith(ALERT)), flush=True)
    return [line.removeprefix(ALERT) for line in lines if line.startswith(ALERT)]


if __name__ == "__main__":
    exit_with_one_line(main)
