"""Table 3 of the paper on a log's random exposures: every method spends the same budget on test users.

python -m mtorl_model.studies.baselines.replay --dataset D --lake LAKE --from DAY --to DAY --budget EXPOSURES
    [--seeds 3] [--max-epochs N] [--methods din cql ...]

Each method learns from the training users of the days of the newest feature spec that ends before the first day, with
the settings that the study of methods has chosen (study.py; the presets before it has run). Then it spends the budget
by the published rule on the random exposures of the test users (budget/replay.py): the users with the highest predicted
reward, each in a channel drawn from the averaged policy. A method that predicts no gains takes users at random. An
offer counts only if it names the logged channel. Figures are gains per matched exposure, of all seeds together;
intervals are over users, and differences to MTORL are paired.
A killed study continues after the last method and seed whose campaign has ended.

Writes `LAKE/D/studies/replay.json`.

Shapes: U users of the campaign, K = 1 + G: exposures, and the sum of each gain.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of, require_at_least
from lakehouse.code_version import code_version
from lakehouse.feature_specs import published_spec
from lakehouse.lake import Lake
from lakehouse.storage.files import json_object, read_stored, write_whole
from lakehouse.storage.scratch import work_folder
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.procedure import Campaign, advertise
from mtorl_model.budget.replay import Replay
from mtorl_model.budget.strategy import AtRandom, published_rule
from mtorl_model.budget.training_level import level_of_log
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.data.money import budget_nano
from mtorl_model.data.windows.store import open_windows
from mtorl_model.evaluation.bootstrap import Floats, UserBootstrap, estimate, quotient
from mtorl_model.methods import METHODS
from mtorl_model.methods.method import MethodConfig, Run
from mtorl_model.studies.baselines.spaces import REFERENCE, add_compared_methods, base_config, methods_of_command
from mtorl_model.studies.baselines.study import seeded
from mtorl_model.studies.cross_validation import stored_arrays
from schemas.dataset import Dataset
from schemas.days import checked_day
from schemas.errors import UserError, exit_with_one_line
from schemas.splits import TEST, TRAIN, VALIDATION
from schemas.tables import FEATURE_SPEC
from schemas.tables.feature_spec import FeatureSpec

NAME = "replay"
RANDOM = "random users and channels"


def run_replay(
    lake: Lake, dataset: Dataset, methods: Sequence[str], first_day: str, last_day: str, budget: int,
    *, seeds: int, max_epochs: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The content of replay.json. methods must contain REFERENCE. budget: exposures."""
    spec = _spec_before(lake, dataset, first_day)
    environment = Replay(lake, dataset, spec.channels, first_day, last_day, TEST)
    configs = {name: _config(lake, dataset, name, max_epochs) for name in methods}
    sums: dict[str, list[Floats]] = {}
    for name, seed in ((name, seed) for name in methods for seed in range(seeds)):
        for strategy, sums_UK in _campaigns(lake, dataset, spec, environment, name, seeded(configs[name], seed),
                                            seed, budget).items():  # fmt: skip
            sums.setdefault(strategy, []).append(sums_UK)
        print(f"{name}: seed {seed}", flush=True)
    users = UserBootstrap(np.arange(len(environment.users)))
    sums_by_strategy = {strategy: users.sums(np.sum(sums_SUK, axis=0)) for strategy, sums_SUK in sums.items()}
    rates = {
        strategy: {gain: quotient(sums_RK[:, 1 + k], sums_RK[:, 0]) for k, gain in enumerate(dataset.gain_names)}
        for strategy, sums_RK in sums_by_strategy.items()
    }
    return {
        "protocol": f"test users; random exposures of {first_day} to {last_day}; trained on {spec.first_day} to "
        f"{spec.last_day}; {budget:,} exposures to pay for in at most {environment.rounds} rounds, of which those that "
        f"name the logged channel count; {seeds} trainings for each method, settings "
        + ("of the study of methods" if _study_file(lake, dataset).exists() else "of the presets"),
        "dataset": dataset.name,
        "users": users.users,
        "gains": list(dataset.gain_names),
        "interval": f"95 %, {users.replicates} bootstrap draws of users; differences to {REFERENCE} are paired",
        "rows": [
            {
                "strategy": strategy,
                "exposures": sums_by_strategy[strategy][0, 0] / len(sums[strategy]),
                "gains": {gain: estimate(rate_R) for gain, rate_R in by_gain.items()},
                "difference": {gain: estimate(rate_R - rates[REFERENCE][gain]) for gain, rate_R in by_gain.items()},
            }
            for strategy, by_gain in rates.items()
        ],
        "command": f"make study STUDY={NAME} DATASET={dataset.name} FROM={first_day} TO={last_day} BUDGET={budget} "
        f"SEEDS={seeds}" + (f" EPOCHS={max_epochs}" if max_epochs else "") + methods_of_command(methods),
    }


def _spec_before(lake: Lake, dataset: Dataset, first_day: str) -> FeatureSpec:
    days = [day for day in lake.days(FEATURE_SPEC, dataset) if day < first_day]
    if not days:
        raise UserError(
            f"no feature spec of days before {first_day}: choose later days, or fit one (python -m "
            f"jobs.build_feature_spec --dataset {dataset.name} --lake {lake.root} --to DAY)"
        )
    return published_spec(lake, dataset, days[-1])


def _study_file(lake: Lake, dataset: Dataset) -> Path:
    return lake.studies(dataset) / "baselines.json"


def _config(lake: Lake, dataset: Dataset, name: str, max_epochs: int | None) -> MethodConfig:
    """The settings of the study of methods, or the preset if it has not run."""
    file = _study_file(lake, dataset)
    config = base_config(name, dataset.name, max_epochs)
    if not file.exists():
        return config
    settings = read_stored(file, _settings, "delete it, and run make study STUDY=baselines again")
    if name not in settings:
        raise UserError(f"{file} does not contain {name}: run make study STUDY=baselines with it, or name METHODS")
    chosen = METHODS[name].Config.from_json(json.dumps(settings[name]))
    has_epochs = max_epochs is not None and "max_epochs" in chosen.settings()
    return chosen.changed({"max_epochs": max_epochs}) if has_epochs else chosen


def _settings(text: str) -> dict[str, Any]:
    return dict(json_object(text)["settings"])


def _campaigns(
    lake: Lake, dataset: Dataset, spec: FeatureSpec, environment: Replay, name: str, config: MethodConfig, seed: int,
    budget: int,
) -> dict[str, Floats]:  # fmt: skip
    """Train the method and run its campaign, or read its sums; [U, K] by strategy. REFERENCE also runs RANDOM."""
    identity = [name, config.to_json(), spec.version, environment.fingerprint, budget, code_version("mtorl_model")]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:20]
    file = lake.studies(dataset) / NAME / f"{name}_{digest}.npz"
    if not file.exists():
        encoder = Encoder(spec, dataset, config.reward_inputs)
        train, valid = (
            open_windows(lake, encoder, spec.first_day, spec.last_day, split) for split in (TRAIN, VALIDATION)
        )
        model = METHODS[name](config, spec, fit_initial_policy(train, spec)).fit(train, valid, Run())
        level = level_of_log(model, train, dataset)
        strategies = {name: published_rule(model, level)} | ({RANDOM: AtRandom(level)} if name == REFERENCE else {})
        sums = {}
        for strategy, chooser in strategies.items():
            memory = JourneyMemory(encoder, dataset, environment.profile, len(environment.users), config.steps)
            campaign = Campaign(budget_nano(str(budget)), environment.rounds, seed, strategy)
            with work_folder() as folder:
                ledger = advertise(environment, memory, chooser, level, campaign, folder / "journal")
            sums[strategy] = _sums(ledger.outcomes, len(environment.users), len(dataset.gain_names))
            if sums[strategy][:, 0].sum() > budget:
                raise RuntimeError(f"{strategy}, seed {seed}: more than {budget} exposures")
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **sums)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, buffer.getvalue())
    return stored_arrays(file)


def _sums(outcomes: Sequence[Any], users: int, gains: int) -> Floats:
    """[U, K]: the exposures of each user, and the sums of their gains."""
    sums_UK = np.zeros((users, 1 + gains))
    for outcome in outcomes:
        exposed_N = outcome.exposed_N
        rows_NK = np.column_stack([np.ones(exposed_N.sum()), outcome.gains_NG[exposed_N]])
        np.add.at(sums_UK, outcome.user_N[exposed_N], rows_NK)
    return sums_UK


def as_text(result: dict[str, Any]) -> str:
    lines = [f"{result['users']:,} users; {result['protocol']}"]
    for row in result["rows"]:
        gains = "  ".join(f"{name} {figure['value']:.4f}" for name, figure in row["gains"].items())
        lines.append(f"{row['strategy']:<26} {row['exposures']:>7.0f} exposures  {gains}")
    return "\n".join(lines)


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    parser.add_argument("--from", dest="first_day", required=True, metavar="DAY")
    parser.add_argument("--to", dest="last_day", required=True, metavar="DAY")
    parser.add_argument("--budget", required=True, type=int, help="exposures to pay for")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each method, each with a campaign")
    parser.add_argument("--max-epochs", type=int, metavar="N", help="at most; default: as many as the settings")
    add_compared_methods(parser)
    args = parser.parse_args()
    require_at_least(args, budget=1, seeds=1, max_epochs=1)
    lake, dataset = lake_of(args), dataset_of(args)
    methods = list(dict.fromkeys([REFERENCE, *args.methods]))
    days = checked_day(args.first_day), checked_day(args.last_day)
    result = run_replay(lake, dataset, methods, *days, args.budget, seeds=args.seeds, max_epochs=args.max_epochs)
    path = lake.studies(dataset) / f"{NAME}.json"
    write_whole(path, json.dumps(result, indent=1) + "\n")
    print(as_text(result))
    print(path)


if __name__ == "__main__":
    exit_with_one_line(main)
