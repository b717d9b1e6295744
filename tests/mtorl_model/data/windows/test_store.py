from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.lake import Lake
from lakehouse.storage.scratch import scratch_folder
from mtorl_model.data.batch import Batch
from mtorl_model.data.encoding import Encoded, Encoder
from mtorl_model.data.windows import store as window_store
from mtorl_model.data.windows.store import WindowStore, open_windows, prefetch
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
def own_lake(tmp_path: Path, empty_scratch: Path) -> tuple[Lake, FeatureSpec]:
    return synthetic.write_lake(tmp_path / "lake", users=20)


def cached() -> list[Path]:
    """The folders of windows in the scratch folder, which has no files of unfinished ones."""
    assert not list(scratch_folder("work").iterdir())
    return list(scratch_folder(window_store.CACHE).iterdir())


def equal(batches: list[Batch], expected: list[Batch]) -> bool:
    return len(batches) == len(expected) and all(
        torch.equal(a, b) for x, y in zip(batches, expected, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_a_store_has_the_encoded_windows_of_its_split_in_order(
    synthetic_lake: tuple[Lake, FeatureSpec], store: WindowStore, empty_scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window that is gathered from encoded steps equals the padded window that is encoded."""
    lake, spec = synthetic_lake
    monkeypatch.setattr(window_store, "_STEPS_PER_CHUNK", 7)
    encoder = Encoder(spec, KUAIRAND)
    in_small_chunks = open_windows(lake, encoder, *DAYS, "train").windows.take(slice(None))
    encoded = encoder.encode(synthetic.padded_windows(lake, KUAIRAND, spec, DAYS, "train"))
    expected = encoded.take(np.flatnonzero(encoded.label_NL.any(axis=1)))
    for name, built, rebuilt, of_table in zip(
        Encoded._fields, store.windows.take(slice(None)), in_small_chunks, expected, strict=True
    ):
        np.testing.assert_array_equal(built, rebuilt, err_msg=name)
        real = expected.valid_NL if built.shape[:2] == expected.valid_NL.shape else slice(None)
        np.testing.assert_array_equal(built[real], of_table[real], err_msg=name)
    in_order = torch.cat([batch.numeric_BLF for batch in store.in_order(16)])
    assert torch.equal(in_order, store.windows.take(slice(None)).batch().numeric_BLF)


@given(rows=st.lists(st.integers(0, 150), min_size=1, max_size=40))
@settings(max_examples=25, deadline=None)
def test_labels_and_propensities_are_those_of_the_whole_windows(store: WindowStore, rows: list[int]) -> None:
    chosen = np.array(rows) % len(store)
    windows, labels = store.windows.take(chosen), store.windows.labels(chosen)
    for name, array in labels._asdict().items():
        np.testing.assert_array_equal(array, getattr(windows, name), err_msg=name)
    assert store.propensity_NL(chosen).shape == windows.label_NL.shape
    padding = ~windows.valid_NL
    assert not windows.numeric_NLF[padding].any()
    assert not windows.label_NL[padding].any()
    assert (windows.action_NL[padding] == -1).all()


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
    windows = store.windows.take(slice(None))
    expected = sorted(map(bytes, np.ascontiguousarray(windows.numeric_NLF[windows.label_NL])))
    width, seen = windows.numeric_NLF.shape[-1], []
    for batch in store.batches(size, seed=seed, epoch=0):
        assert batch.label_BL.any()
        seen += [bytes(row) for row in batch.numeric_BLF[batch.label_BL][:, :width].numpy()]
    assert sorted(seen) == expected


def test_windows_without_a_label_are_left_out(own_lake: tuple[Lake, FeatureSpec]) -> None:
    lake, spec = own_lake
    user = next(u for u in range(100) if synthetic.split_of(u) == "train")
    for number, day in enumerate(DAYS):
        first = 3 * number
        rows = [
            {
                "user_id": user,
                "exposure_id": place,
                "exposed_at_ms": place,
                "journey_position": place,
                "channel": channel,
            }
            for place, channel in enumerate(("long", None, "mid"), start=first)
        ]
        # The channel of the first window's only label is unknown.
        windows = [synthetic.window(user, first + k, first + k + 1, first + k + 1, number=k) for k in (0, 1)]
        synthetic.publish_day(lake, KUAIRAND, spec, day, rows, windows)
    assert open_train(lake, spec).windows.take(slice(None)).action_NL[:, -1].tolist() == [1, 1]


def test_windows_are_read_from_the_cache_until_something_changes(
    own_lake: tuple[Lake, FeatureSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, spec = own_lake
    first = open_train(lake, spec)
    with monkeypatch.context() as patch:
        patch.setattr(window_store, "_write", None)
        assert open_train(lake, spec).key == first.key
    assert open_train(lake, spec, "fused").windows.take(slice(None)).reward_in_NLR.shape[-1] == 1
    changed_lake = synthetic.write_lake(tmp_path / "other", users=25, seed=1)[0]
    synthetic.write_lake(lake.root, users=25, seed=1)
    changed = open_train(lake, spec)
    assert changed.key != first.key
    assert len(cached()) == 3
    monkeypatch.setenv("MTORL_SCRATCH", str(tmp_path / "another"))
    assert equal(list(changed.in_order(1000)), list(open_train(changed_lake, spec).in_order(1000)))


def test_windows_that_another_process_has_encoded_in_the_meantime_are_used(
    own_lake: tuple[Lake, FeatureSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, spec = own_lake
    write = window_store._write

    def write_after_another(*args: Any) -> int:
        monkeypatch.setattr(window_store, "_write", write)
        open_train(lake, spec)
        return write(*args)

    monkeypatch.setattr(window_store, "_write", write_after_another)
    assert len(open_train(lake, spec)) > 0
    assert len(cached()) == 1


def test_a_failure_while_encoding_leaves_no_incomplete_cache(
    own_lake: tuple[Lake, FeatureSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, spec = own_lake

    def failing(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(window_store, "_labelled_windows", failing)  # after steps have been written
        with pytest.raises(OSError, match="No space"):
            open_train(lake, spec)
    assert cached() == []
    assert len(open_train(lake, spec)) > 0


@pytest.mark.parametrize("name", ["numeric_MF.npy", "labels_N.npy", "_meta.json"])
def test_damaged_windows_are_encoded_again(
    own_lake: tuple[Lake, FeatureSpec], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    lake, spec = own_lake
    expected = list(open_train(lake, spec).in_order(1000))
    (folder,) = cached()
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1 if name.endswith(".npy") else 0x80  # no text any more
    (folder / name).write_bytes(content)
    assert equal(list(open_train(lake, spec).in_order(1000)), expected)
    assert "is damaged: made again" in capsys.readouterr().out
    open_train(lake, spec)
    assert "damaged" not in capsys.readouterr().out


def test_sequences_that_cannot_be_trained_on_are_an_error_of_one_line(own_lake: tuple[Lake, FeatureSpec]) -> None:
    lake, spec = own_lake
    encoder = Encoder(spec, KUAIRAND)
    with pytest.raises(UserError, match="no sequences for kuairand from 2023-01-01 to 2023-01-02"):
        open_windows(lake, encoder, "2023-01-01", "2023-01-02", "train")
    for day in DAYS:
        synthetic.publish_day(lake, KUAIRAND, spec, day, [], [])
    with pytest.raises(UserError, match="no validation windows for kuairand"):
        open_windows(lake, encoder, *DAYS, "validation")
    (broken,) = lake["sequences", "kuairand", DAYS[0]].files()
    content = broken.read_bytes()
    for damaged, fault in ((content[:-20], "bytes instead of"), (content[:-20] + bytes(20), "cannot be read")):
        broken.write_bytes(damaged)
        with pytest.raises(UserError, match=fault):
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
