import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as pads
import pytest
import synthetic
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.lake import Lake
from mtorl_model.data import window_store
from mtorl_model.data.batch import Batch
from mtorl_model.data.encoding import Encoded, Encoder
from mtorl_model.data.window_store import WindowStore, one_ahead, open_windows
from mtorl_model.methods.mtorl.reward_forms import REWARD_FORMS
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.tables.feature_spec import FeatureSpec

KUAIRAND = get_dataset("kuairand")
DAYS = ("2022-04-10", "2022-04-11")


def open_train(lake: Lake, spec: FeatureSpec, form: str = "binary") -> WindowStore:
    return open_windows(lake, Encoder(spec, KUAIRAND, REWARD_FORMS[form].inputs), *DAYS, "train")


@pytest.fixture(scope="module")
def store(synthetic_lake: tuple[Lake, FeatureSpec]) -> WindowStore:
    return open_train(*synthetic_lake)


@pytest.fixture
def own_lake(tmp_path: Path) -> tuple[Lake, FeatureSpec]:
    return synthetic.write_lake(tmp_path, users=20)


def same(one: list[Batch], two: list[Batch]) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a, b) for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_a_store_holds_the_splits_encoded_windows_in_order(
    synthetic_lake: tuple[Lake, FeatureSpec], store: WindowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, spec = synthetic_lake
    monkeypatch.setattr(window_store, "_ROWS_AT_ONCE", 7)
    encoder = Encoder(spec, KUAIRAND)
    shutil.rmtree(lake.table(window_store.CACHE, "kuairand"))
    again = open_windows(lake, encoder, *DAYS, "train")
    whole = pads.dataset(lake["sequences", "kuairand", DAYS[0]].path, format="parquet").to_table()
    first_day = encoder.encode(whole.filter(pads.field("split") == "train"))
    for name, built, small_parts, expected in zip(
        Encoded._fields, store.windows, again.windows, first_day, strict=True
    ):
        np.testing.assert_array_equal(built, small_parts, err_msg=name)
        np.testing.assert_array_equal(built[: len(expected)], expected, err_msg=name)
    in_order = torch.cat([batch.numeric_BLF for batch in store.in_order(16)])
    assert torch.equal(in_order, store.windows.take(slice(None)).batch().numeric_BLF)


def test_the_order_depends_on_seed_and_epoch_alone(store: WindowStore) -> None:
    def batches(seed: int, epoch: int) -> list[Batch]:
        return list(store.batches(16, seed=seed, epoch=epoch))

    assert same(batches(3, 5), batches(3, 5))
    assert not same(batches(3, 5), batches(3, 6))
    assert not same(batches(3, 5), batches(4, 5))
    assert len(batches(3, 5)) == store.steps_per_epoch(16)


@given(size=st.integers(1, 300), start=st.integers(0, 40), epoch=st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_resuming_at_a_step_yields_the_tail(store: WindowStore, size: int, start: int, epoch: int) -> None:
    whole = list(store.batches(size, seed=1, epoch=epoch))
    assert same(list(store.batches(size, seed=1, epoch=epoch, start_step=start)), whole[start:])


@pytest.mark.parametrize("size", [16, 10_000])
def test_micro_batches_are_the_batch_in_parts(store: WindowStore, size: int) -> None:
    parts = list(store.batches(size, seed=1, epoch=0, parts=3))
    for step, batch in enumerate(store.batches(size, seed=1, epoch=0)):
        of_batch = parts[3 * step : 3 * step + 3]
        rows = [len(part.label_BL) for part in of_batch]
        assert max(rows) - min(rows) <= 1
        bearing = [part.numeric_BLF[part.label_BL.any(dim=1)] for part in of_batch]
        assert torch.cat(bearing).sum(dim=(1, 2)).sort().values.equal(batch.numeric_BLF.sum(dim=(1, 2)).sort().values)
    shared = [list(store.batches(size, seed=1, epoch=0, parts=3, mine=slice(part, part + 1))) for part in range(3)]
    assert same([part for of_step in zip(*shared, strict=True) for part in of_step], parts)


def test_a_batch_of_fewer_windows_than_parts_is_filled_up_without_labels(store: WindowStore) -> None:
    size = len(store) - 1  # a last batch of one window
    *_, first, second, third = store.batches(size, seed=1, epoch=0, parts=3)
    assert [len(part.label_BL) for part in (first, second, third)] == [1, 1, 1]
    assert first.label_BL.any()
    assert not second.label_BL.any()
    assert not third.label_BL.any()
    assert second.valid_BL.any()


def test_every_other_batch_in_order(store: WindowStore) -> None:
    whole = list(store.in_order(7))
    assert len(whole) > 3
    for first in (0, 1):
        assert same(list(store.in_order(7, every=2, first=first)), whole[first::2])


@given(size=st.integers(1, 300), seed=st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_an_epoch_holds_every_label_exactly_once(store: WindowStore, size: int, seed: int) -> None:
    windows = store.windows
    expected = sorted(map(bytes, np.ascontiguousarray(windows.numeric_NLF[windows.label_NL])))
    width, seen = windows.numeric_NLF.shape[-1], []
    for batch in store.batches(size, seed=seed, epoch=0):
        assert batch.label_BL.any()
        seen += [bytes(row) for row in batch.numeric_BLF[batch.label_BL][:, :width].numpy()]
    assert sorted(seen) == expected


def test_windows_without_a_label_are_left_out(own_lake: tuple[Lake, FeatureSpec]) -> None:
    lake, spec = own_lake
    user = next(u for u in range(100) if synthetic.split_of(u) == "train")
    step = {"valid": [False] * 19 + [True], "user_id": user, "split": "train"}
    windows = [
        {**step, "window": 0, "is_label": step["valid"], "channel": [None] * 20},  # shown in an unknown channel
        {**step, "window": 1, "is_label": step["valid"], "channel": [None] * 19 + ["mid"]},
    ]
    for day in DAYS:
        synthetic.publish_sequences(lake, KUAIRAND, spec, day, windows)
    assert open_train(lake, spec).windows.action_NL[:, -1].tolist() == [1, 1]


def test_a_second_opening_reads_the_cache_and_a_change_makes_it_anew(
    own_lake: tuple[Lake, FeatureSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, spec = own_lake
    first = open_train(lake, spec)
    with monkeypatch.context() as patch:
        patch.setattr(window_store, "_write", None)
        assert open_train(lake, spec).key == first.key
    assert open_train(lake, spec, "fused").windows.reward_in_NLR.shape[-1] == 1
    other = synthetic.write_lake(lake.root / "other", users=25, seed=1)[0]
    for day in DAYS:
        partition = Path("sequences") / "dataset=kuairand" / f"ds={day}"
        shutil.rmtree(lake.root / partition)
        shutil.copytree(other.root / partition, lake.root / partition)
    changed = open_train(lake, spec)
    assert changed.key != first.key
    assert same(list(changed.in_order(1000)), list(open_train(other, spec).in_order(1000)))
    assert not any(lake.staging.iterdir())


def test_a_failure_while_encoding_leaves_no_half_cache(
    own_lake: tuple[Lake, FeatureSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, spec = own_lake
    parts = window_store._encoded_parts

    def failing(*args: Any) -> Iterator[Encoded]:
        yield next(parts(*args))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(window_store, "_encoded_parts", failing)
        with pytest.raises(OSError, match="No space"):
            open_train(lake, spec)
    assert not list(lake.table(window_store.CACHE, "kuairand").glob("*"))
    assert not any(lake.staging.iterdir())
    assert len(open_train(lake, spec)) > 0


def test_what_cannot_be_trained_on_is_refused_in_one_line(own_lake: tuple[Lake, FeatureSpec]) -> None:
    lake, spec = own_lake
    encoder = Encoder(spec, KUAIRAND)
    with pytest.raises(UserError, match="no sequences for kuairand from 2023-01-01 to 2023-01-02"):
        open_windows(lake, encoder, "2023-01-01", "2023-01-02", "train")
    refitted = replace(spec, last_day="2022-04-12")
    with pytest.raises(UserError, match=f"cut with feature spec {spec.version}, not {refitted.version}"):
        open_train(lake, refitted)
    for day in DAYS:
        synthetic.publish_sequences(lake, KUAIRAND, spec, day, [])
    with pytest.raises(UserError, match="no validation windows for kuairand"):
        open_windows(lake, encoder, *DAYS, "validation")
    broken = lake["sequences", "kuairand", DAYS[0]].path / "part-00000.parquet"
    broken.write_bytes(broken.read_bytes()[:-20])
    with pytest.raises(UserError, match="cannot be read"):
        open_windows(lake, encoder, *DAYS, "train")


def test_reading_ahead_keeps_order_and_passes_errors_on() -> None:
    assert list(one_ahead(iter(range(1, 6)))) == [1, 2, 3, 4, 5]

    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("broken batch")

    ahead = one_ahead(failing())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="broken batch"):
        next(ahead)
