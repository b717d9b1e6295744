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
from mtorl_model.data.window_store import WindowStore, open_windows, prefetch
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


def equal(batches: list[Batch], expected: list[Batch]) -> bool:
    return len(batches) == len(expected) and all(
        torch.equal(a, b) for x, y in zip(batches, expected, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_a_store_has_the_encoded_windows_of_its_split_in_order(
    synthetic_lake: tuple[Lake, FeatureSpec], store: WindowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, spec = synthetic_lake
    monkeypatch.setattr(window_store, "_ROWS_PER_CHUNK", 7)
    encoder = Encoder(spec, KUAIRAND)
    shutil.rmtree(lake.table(window_store.CACHE, "kuairand"))
    in_small_chunks = open_windows(lake, encoder, *DAYS, "train")
    table = lake["sequences", "kuairand", DAYS[0]].read()
    first_day = encoder.encode(table.filter(pads.field("split") == "train"))
    for name, built, rebuilt, expected in zip(
        Encoded._fields, store.windows, in_small_chunks.windows, first_day, strict=True
    ):
        np.testing.assert_array_equal(built, rebuilt, err_msg=name)
        np.testing.assert_array_equal(built[: len(expected)], expected, err_msg=name)
    in_order = torch.cat([batch.numeric_BLF for batch in store.in_order(16)])
    assert torch.equal(in_order, store.windows.take(slice(None)).batch().numeric_BLF)


def test_the_order_depends_only_on_seed_and_epoch(store: WindowStore) -> None:
    def batches(seed: int, epoch: int) -> list[Batch]:
        return list(store.batches(16, seed=seed, epoch=epoch))

    assert equal(batches(3, 5), batches(3, 5))
    assert not equal(batches(3, 5), batches(3, 6))
    assert not equal(batches(3, 5), batches(4, 5))
    assert len(batches(3, 5)) == store.steps_per_epoch(16)


@given(size=st.integers(1, 300), start=st.integers(0, 40), epoch=st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_starting_at_a_step_yields_the_remaining_batches(store: WindowStore, size: int, start: int, epoch: int) -> None:
    batches = list(store.batches(size, seed=1, epoch=epoch))
    assert equal(list(store.batches(size, seed=1, epoch=epoch, start_step=start)), batches[start:])


@pytest.mark.parametrize("size", [16, 10_000])
def test_micro_batches_are_the_batch_in_parts(store: WindowStore, size: int) -> None:
    parts = list(store.batches(size, seed=1, epoch=0, parts=3))
    for step, batch in enumerate(store.batches(size, seed=1, epoch=0)):
        micro_batches = parts[3 * step : 3 * step + 3]
        rows = [len(part.label_BL) for part in micro_batches]
        assert max(rows) - min(rows) <= 1
        labelled = [part.numeric_BLF[part.label_BL.any(dim=1)] for part in micro_batches]
        assert torch.cat(labelled).sum(dim=(1, 2)).sort().values.equal(batch.numeric_BLF.sum(dim=(1, 2)).sort().values)
    shared = [list(store.batches(size, seed=1, epoch=0, parts=3, own_parts=slice(part, part + 1))) for part in range(3)]
    assert equal([part for step_parts in zip(*shared, strict=True) for part in step_parts], parts)


def test_a_batch_of_fewer_windows_than_parts_is_filled_up_without_labels(store: WindowStore) -> None:
    size = len(store) - 1  # a last batch of one window
    *_, first, second, third = store.batches(size, seed=1, epoch=0, parts=3)
    assert [len(part.label_BL) for part in (first, second, third)] == [1, 1, 1]
    assert first.label_BL.any()
    assert not second.label_BL.any()
    assert not third.label_BL.any()
    assert second.valid_BL.any()


def test_every_second_batch_in_order(store: WindowStore) -> None:
    batches = list(store.in_order(7))
    assert len(batches) > 3
    for first in (0, 1):
        assert equal(list(store.in_order(7, first=first, stride=2)), batches[first::2])


@given(size=st.integers(1, 300), seed=st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_an_epoch_has_every_label_exactly_once(store: WindowStore, size: int, seed: int) -> None:
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
        {**step, "window": 0, "is_label": step["valid"], "channel": [None] * 20},  # its channel is unknown
        {**step, "window": 1, "is_label": step["valid"], "channel": [None] * 19 + ["mid"]},
    ]
    for day in DAYS:
        synthetic.publish_sequences(lake, KUAIRAND, spec, day, windows)
    assert open_train(lake, spec).windows.action_NL[:, -1].tolist() == [1, 1]


def test_windows_are_read_from_the_cache_until_something_changes(
    own_lake: tuple[Lake, FeatureSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, spec = own_lake
    first = open_train(lake, spec)
    with monkeypatch.context() as patch:
        patch.setattr(window_store, "_write", None)
        assert open_train(lake, spec).key == first.key
    assert open_train(lake, spec, "fused").windows.reward_in_NLR.shape[-1] == 1
    changed_lake = synthetic.write_lake(lake.root / "other", users=25, seed=1)[0]
    for day in DAYS:
        partition = Path("sequences") / "dataset=kuairand" / f"ds={day}"
        shutil.rmtree(lake.root / partition)
        shutil.copytree(changed_lake.root / partition, lake.root / partition)
    changed = open_train(lake, spec)
    assert changed.key != first.key
    assert equal(list(changed.in_order(1000)), list(open_train(changed_lake, spec).in_order(1000)))
    assert not any(lake.staging.iterdir())


def test_a_failure_while_encoding_leaves_no_incomplete_cache(
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


def test_sequences_that_cannot_be_trained_on_are_an_error_of_one_line(own_lake: tuple[Lake, FeatureSpec]) -> None:
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


def test_prefetching_keeps_the_order_and_passes_errors_on() -> None:
    assert list(prefetch(iter(range(1, 6)))) == [1, 2, 3, 4, 5]

    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("broken batch")

    items = prefetch(failing())
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken batch"):
        next(items)
