"""Study: do MTORL's user embeddings help another model that predicts clicks? (section 4.5 of the paper)

python -m mtorl_model.studies.embeddings --dataset D --lake LAKE [--folds 2] [--max-epochs 4]

A click model in the manner of DIN (ctr_model.py) without, with frozen and with co-trained embeddings. The encoder
has seen no outcome that is predicted:

- Users: the click model and MTORL learn from the training users of a fold and stop by others of its users; predictions
  are for the fold's held-out users (cross_validation.py). No user of the test split is used.
- Days: the exposures are cut at a day into an earlier and a later half. MTORL learns from labels of the earlier days
  alone; the click model learns from, and is measured on, labels of the later days.
- Moments: the embedding at a step depends on facts that were known before that step.

Two variants are controls. One click model without embeddings learns from all days, because embeddings bring knowledge
from the earlier days. One is co-trained from random weights, because an encoder also adds size.
Writes `LAKE/D/studies/embeddings.csv`, `.json` and `.svg`, and a run in MLflow.

Shapes as in data/batch.py, W windows, N labels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of, require_at_least
from lakehouse.lake import Lake
from mtorl_model.champion.registry import log_files
from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.data.encoding import Encoded, Encoder, input_sizes
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.data.windows.step_pool import StepPool
from mtorl_model.data.windows.store import WindowsInMemory
from mtorl_model.evaluation.bootstrap import UserBootstrap
from mtorl_model.evaluation.metrics import reward_metrics
from mtorl_model.methods.method import WINDOWS_AT_ONCE, Run
from mtorl_model.methods.mtorl.config import preset
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.methods.mtorl.network import Network
from mtorl_model.studies.cross_validation import FOLDS, Bools, Floats, Ints, fold_parts
from mtorl_model.studies.ctr_model import ClickModel
from mtorl_model.studies.files import publish_study, study_row
from mtorl_model.studies.pictures import draw
from mtorl_model.studies.training_pool import training_pool
from mtorl_model.studies.variants import EMBEDDINGS, EMBEDDINGS_QUESTION, REFERENCE
from schemas.dataset import Dataset
from schemas.errors import UserError, exit_with_one_line

_HIDDEN = 64  # of the encoder
_BATCH, _RATE, _ENCODER_RATE = 128, 1e-3, 1e-4  # _ENCODER_RATE: of a pre-trained encoder
_FIGURES = ("auc", "logloss")
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Variant:
    """encoder: none, frozen, co-trained or random (co-trained from random weights)."""

    name: str
    encoder: str = "none"
    all_days: bool = False
    seed: int = 0


VARIANTS = (
    Variant(REFERENCE),
    Variant("frozen embeddings", "frozen"),
    Variant("co-trained embeddings", "co-trained"),
    Variant("without embeddings, from all days", all_days=True),
    Variant("co-trained from random weights", "random"),
    Variant("reference, repeated with another seed", seed=1),
)


@dataclass(frozen=True, slots=True)
class Part:
    """The windows of a group of users; their labels on the earlier and on the later days, [W, L]; user and exposure."""

    windows: Encoded
    earlier_WL: Bools
    later_WL: Bools
    user_WL: Any
    exposure_WL: Ints

    def labelled(self, label_WL: Bools) -> Encoded:
        """The windows that have one of these labels, and no other labels."""
        rows = np.flatnonzero(label_WL.any(axis=1))
        return self.windows.take(rows)._replace(label_NL=label_WL[rows])


def cut_at(exposed_at_ms: Ints) -> int:
    """The start of the day, in UTC, that is nearest to the middle exposure, in ms."""
    return round(float(np.median(exposed_at_ms)) / DAY_MS) * DAY_MS


def part_of(pool: StepPool, users_U: Bools, steps: int, cut_ms: int) -> Part:
    """The windows of these users of the pool."""
    step_WL, label_WL = pool.cut(users_U, steps)
    windows = pool.windows(step_WL, label_WL)
    is_later_WL = pool.steps["exposed_at_ms"][np.maximum(step_WL, 0)] >= cut_ms
    label_WL = windows.label_NL
    return Part(
        windows, label_WL & ~is_later_WL, label_WL & is_later_WL,
        pool.steps["user_id"][np.maximum(step_WL, 0)], pool.steps["exposure_id"][np.maximum(step_WL, 0)],
    )  # fmt: skip


def pretrained(train: Part, stop: Part, encoder: Encoder, dataset: Dataset, epochs: int) -> Network:
    """The network of an MTORL that has learned from the labels of the earlier days alone."""
    settings = {"hidden": _HIDDEN, "members": 1, "trees": False, "max_epochs": epochs, "device": "cpu"}
    config = preset("small", dataset.name).changed(settings)
    learned, stopped_by = (WindowsInMemory(part.labelled(part.earlier_WL)) for part in (train, stop))
    model = MTORL(config, encoder.spec, fit_initial_policy(learned, encoder.spec))
    return model.fit(learned, stopped_by, Run()).networks[0]


def fit_and_predict(
    variant: Variant, sizes: InputSizes, network: Network, parts: tuple[Part, Part, Part], epochs: int
) -> Floats:
    """[N, G]: the variant's predictions for the held-out users' labels of the later days.

    parts: of the users who train, who decide when to stop, and who are held out. network: the pre-trained one; it does
    not change.
    """
    torch.manual_seed(variant.seed)
    train, stop, held_out = parts
    user_encoder = None
    if variant.encoder != "none":
        user_encoder = Network(network.config, network.sizes)
        if variant.encoder != "random":
            user_encoder.load_state_dict(network.state_dict())
    model = ClickModel(sizes, user_embedding=network.config.hidden if user_encoder else 0)
    groups: list[dict[str, Any]] = [{"params": model.parameters(), "lr": _RATE}]
    if user_encoder and variant.encoder != "frozen":
        rate = _RATE if variant.encoder == "random" else _ENCODER_RATE
        groups.append({"params": user_encoder.parameters(), "lr": rate})
    elif user_encoder:
        user_encoder.requires_grad_(False)
    optimiser = torch.optim.Adam(groups)
    learned = train.labelled(train.earlier_WL | train.later_WL if variant.all_days else train.later_WL)
    stopped_by = stop.labelled(stop.later_WL)
    rng = np.random.default_rng(variant.seed)
    best_loss, best_NG = np.inf, np.empty((0, sizes.gains))
    for _ in range(epochs):
        model.train()
        if user_encoder:
            user_encoder.train(variant.encoder != "frozen")
        for batch in _batches(learned, rng.permutation(len(learned.valid_NL)), _BATCH):
            optimiser.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(
                _odds(model, user_encoder, batch), batch.gains_BLG[batch.label_BL]
            )
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 1.0)
            optimiser.step()
        stop_loss = _log_loss(_predict(model, user_encoder, stopped_by), stopped_by.gains_NLG[stopped_by.label_NL])
        if stop_loss < best_loss:
            best_loss, best_NG = stop_loss, _predict(model, user_encoder, held_out.labelled(held_out.later_WL))
    return best_NG


def _odds(model: ClickModel, user_encoder: Network | None, batch: Batch) -> Tensor:
    odds_NG: Tensor = model(batch, None if user_encoder is None else user_encoder.user_states(batch))
    return odds_NG


def _batches(windows: Encoded, order: Ints, size: int) -> Iterator[Batch]:
    for start in range(0, len(order), size):
        yield windows.take(np.sort(order[start : start + size])).batch()


@torch.inference_mode()
def _predict(model: ClickModel, user_encoder: Network | None, windows: Encoded) -> Floats:
    """[N, G]"""
    model.eval()
    if user_encoder:
        user_encoder.eval()
    parts = [
        _odds(model, user_encoder, batch).sigmoid().double().numpy()
        for batch in _batches(windows, np.arange(len(windows.valid_NL)), WINDOWS_AT_ONCE)
    ]
    return np.concatenate(parts)


def _log_loss(predicted_NG: Floats, gain_NG: Any) -> float:
    return float(-np.log(np.where(gain_NG > 0, predicted_NG, 1 - predicted_NG)).mean())


def run_embeddings(
    lake: Lake, dataset: Dataset, *, folds: int, epochs: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of the CSV, and the protocol of the JSON."""
    config = preset("small", dataset.name)
    encoder, pool = training_pool(lake, dataset.name, config.model.reward_form)
    cut_ms = cut_at(pool.steps["exposed_at_ms"])
    predicted: dict[str, list[Floats]] = {variant.name: [] for variant in VARIANTS}
    users, gains = [], []
    for fold in range(folds):
        train, stop, held_out = (
            part_of(pool, users_U, config.steps, cut_ms) for users_U in fold_parts(pool.user_U, fold)
        )
        if not all(part.earlier_WL.any() and part.later_WL.any() for part in (train, stop, held_out)):
            raise UserError(f"too few users or days of {dataset.name} in {lake.root} to cut its log into two halves")
        network = pretrained(train, stop, encoder, dataset, epochs)
        sizes = input_sizes(encoder.spec, encoder.reward_inputs)
        for variant in VARIANTS:
            predicted[variant.name].append(fit_and_predict(variant, sizes, network, (train, stop, held_out), epochs))
            print(f"fold {fold + 1} of {folds}: {variant.name}", flush=True)
        users.append(held_out.user_WL[held_out.later_WL])
        gains.append(held_out.windows.gains_NLG[held_out.later_WL].astype(np.float64))
    user_N, gain_NG = np.concatenate(users), np.concatenate(gains)
    draws = UserBootstrap(user_N)
    figures = {
        name: {
            f"{gain} {figure}": reward_metrics(gain_NG[:, k], np.concatenate(parts_NG)[:, k], draws).figures[figure]
            for k, gain in enumerate(dataset.gain_names)
            for figure in _FIGURES
        }
        for name, parts_NG in predicted.items()
    }
    rows = [
        study_row(variant.name, None, figure, figures[variant.name][figure], figures[REFERENCE][figure])
        for variant in VARIANTS
        for figure in figures[REFERENCE]
    ]
    cut = np.datetime64(cut_ms, "ms").astype("datetime64[D]")
    protocol = {
        "protocol": "click model in the manner of DIN; the reference reads no embeddings; cross-validation by user "
        f"over {folds} of {FOLDS} folds of the training and validation users, no test user; MTORL learns before {cut} "
        "(UTC), the click model from that day on",
        "dataset": dataset.name, "study": EMBEDDINGS, "question": EMBEDDINGS_QUESTION,
        "users": draws.users, "labels": len(user_N),
        "interval": f"95 %, {draws.replicates} bootstrap draws of users; differences are paired",
        "channel_predictable": False,
        "repetitions": [variant.name for variant in VARIANTS if variant.seed],
        "command": f"make study DATASET={dataset.name} STUDY={EMBEDDINGS} FOLDS={folds} EPOCHS={epochs}",
    }  # fmt: skip
    return rows, protocol


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    parser.add_argument("--folds", type=int, default=2, help=f"how many of the {FOLDS} folds, 1 to {FOLDS}")
    parser.add_argument("--max-epochs", type=int, default=4, metavar="N", help="of every training; default %(default)s")
    args = parser.parse_args()
    if not 1 <= args.folds <= FOLDS:
        raise UserError(f"--folds {args.folds}: choose 1 to {FOLDS}")
    require_at_least(args, max_epochs=1)
    lake, dataset = lake_of(args), dataset_of(args)
    rows, protocol = run_embeddings(lake, dataset, folds=args.folds, epochs=args.max_epochs)
    files = publish_study(lake, dataset, EMBEDDINGS, rows, protocol, lambda file: draw(rows, protocol, None, file))
    log_files(lake, dataset, f"study {EMBEDDINGS}", {"folds": args.folds, "epochs": args.max_epochs}, files)
    for row in rows:
        if row["variant"] != REFERENCE:
            print(f"{row['variant']}: {row['figure']} {row['difference']:+.4f} "
                  f"[{row['difference_low']:+.4f}, {row['difference_high']:+.4f}]")  # fmt: skip
    print("\n".join(map(str, files)))


if __name__ == "__main__":
    exit_with_one_line(main)
