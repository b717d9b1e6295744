"""User embeddings: the user encoder's output for every user of a day, as a table of vectors of a fixed size."""

from types import SimpleNamespace

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from synthetic_journeys import CHANNELS, SPEC, Shown, journeys, publish_journeys, toy_dataset

from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from mtorl_model import score
from mtorl_model.champion.registry import Registry
from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.data.windows.next_steps import journeys_to_windows
from mtorl_model.inference import user_predictions
from mtorl_model.inference.user_embeddings import embed_users, publish_embeddings
from mtorl_model.methods.baselines.boosting import Boosting
from mtorl_model.methods.method import Method
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, MTORLConfig
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.training.config import TrainConfig
from schemas.errors import UserError
from schemas.tables.user_embeddings import user_embeddings

TOY, DAY, USERS, SIZE = toy_dataset(), "2024-01-02", 90, 16
INITIAL = InitialPolicy(CHANNELS, (0.5, 0.3, 0.2), {"click": 0.25, "sale": 0.125}, (0.5, 0.3, 0.2))


def untrained(**settings) -> MTORL:
    config = MTORLConfig(ModelConfig(hidden=SIZE, steps=6), LossConfig(), TrainConfig(seed=1)).changed(settings)
    return MTORL(config, SPEC, INITIAL).initialise()


def users(count: int = USERS) -> dict[int, list[Shown]]:
    """Journeys of 1 to 12 exposures: windows of every length, and journeys longer than a window."""
    rng = np.random.default_rng(0)
    return {
        user: [Shown(rng.choice(CHANNELS), int(rng.random() < 0.3)) for _ in range(rng.integers(1, 13))]
        for user in range(count)
    }


def embeddings(table: pa.Table, model: MTORL) -> np.ndarray:
    return np.concatenate([embedding_UD for _, embedding_UD in embed_users([table], model, TOY)])


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake")


def publish(lake: Lake, version: str = "mtorl_toy/1", model: Method | None = None, **options) -> Manifest:
    return publish_embeddings(lake, TOY, DAY, version, lambda: model or untrained(), **options)


@pytest.mark.parametrize("settings", [{"members": 2}, {"use_attention": False}, {"use_state_encoder": False}])
def test_an_embedding_is_the_output_of_the_first_networks_encoder_at_the_last_step(settings):
    model, table = untrained(**settings), journeys(users())
    batch = model.encoder(TOY).encode(journeys_to_windows(table, SPEC, TOY, 6)).batch()
    state_BLD = model.networks[0].eval().user_states(batch).detach().numpy()
    np.testing.assert_allclose(embeddings(table, model), state_BLD[:, -1], atol=1e-5)
    assert len(np.unique(state_BLD[:, -1].round(4), axis=0)) > USERS // 2


def test_an_embedding_does_not_depend_on_the_other_users(monkeypatch):
    model, table = untrained(), journeys(users())
    expected = embeddings(table, model)
    monkeypatch.setattr(user_predictions, "USERS_PER_CHUNK", 7)
    chosen = [5, 80, 3, 3, 41]
    assert embeddings(table.take(chosen), model).tobytes() == expected[chosen].tobytes()


def test_the_table_has_a_vector_of_fixed_size_for_every_user(lake):
    table = journeys(users())
    fingerprint = publish_journeys(lake, DAY, table)
    manifest = publish(lake, rows_per_read=40)
    assert manifest.rows == USERS
    assert manifest.inputs == {f"toy/journeys/ds={DAY}": fingerprint, "model": "mtorl_toy/1"}
    published = lake["user_embeddings", TOY, DAY].read()
    assert published.schema.field("embedding").type == pa.list_(pa.float32(), SIZE)
    assert tuple(published.column_names) == user_embeddings(TOY).column_names
    assert published.column("user_id").to_pylist() == list(range(USERS))
    matrix_UD = published.column("embedding").combine_chunks().flatten().to_numpy().reshape(USERS, SIZE)
    np.testing.assert_array_equal(matrix_UD, embeddings(table, untrained()))
    assert set(published.column("model_version").to_pylist()) == {"mtorl_toy/1"}


def test_embeddings_of_the_same_journeys_and_model_are_not_made_again(lake, capsys):
    publish_journeys(lake, DAY, journeys(users(20)))
    first = publish(lake)
    assert publish(lake) == first
    assert "fresh, not made again" in capsys.readouterr().out
    assert publish(lake, "mtorl_toy/2").inputs["model"] == "mtorl_toy/2"
    publish_journeys(lake, DAY, journeys(users(21)))
    assert publish(lake, "mtorl_toy/2").rows == 21


def test_a_method_without_embeddings_and_a_broken_model_are_one_clear_line(lake):
    publish_journeys(lake, DAY, journeys(users(5)))
    with pytest.raises(UserError, match="the method boosting has no user embeddings: switch them off"):
        publish(lake, "boosting_toy/1", Boosting(Boosting.Config(), SPEC, INITIAL))
    broken = untrained()
    broken.networks[0].input.weight.data[:] = np.nan
    with pytest.raises(UserError, match="embeddings that are not finite"):
        publish(lake, model=broken)
    assert lake["user_embeddings", TOY, DAY].manifest is None


@pytest.mark.parametrize(
    ("embedding", "failing"),
    [
        ([0.5, 1.0], set()),
        ([0.5], {"same_size"}),
        ([], {"same_size"}),
        ([0.5, 1.0, 2.0], {"same_size"}),
    ],
)
def test_the_audit_sees_a_broken_vector(embedding, failing):
    vectors = pa.array([[0.5, float(k)] for k in range(11)] + [embedding], pa.list_(pa.float32()))
    partition = pa.table({"user_id": range(12), "embedding": vectors})  # noqa: F841 (DuckDB reads it by name)
    audited = duckdb.sql(user_embeddings(TOY).audit_duckdb_sql)
    assert {name for name in audited.columns[1:] if audited.filter(f"{name} IS NOT TRUE").fetchall()} == failing


def test_the_audit_sees_one_vector_for_everyone():
    vectors = pa.array([[0.5, 1.0]] * 12, pa.list_(pa.float32()))
    partition = pa.table({"user_id": range(12), "embedding": vectors})  # noqa: F841 (DuckDB reads it by name)
    assert not any(row[-1] for row in duckdb.sql(user_embeddings(TOY).audit_duckdb_sql).fetchall())


def test_scoring_publishes_embeddings_only_if_they_are_switched_on(lake, monkeypatch, capsys):
    monkeypatch.setattr(Registry, "named_version", lambda _, name: SimpleNamespace(name=name))
    monkeypatch.setattr(Registry, "load", lambda _, version: untrained())
    monkeypatch.setattr(Registry, "load_champion", lambda _: ("mtorl_toy/1", untrained()))
    monkeypatch.setattr(Registry, "champion", lambda _: SimpleNamespace(name="mtorl_toy/1", day=DAY))
    monkeypatch.setattr(score, "get_dataset", lambda _: TOY)
    publish_journeys(lake, DAY, journeys(users(20)))
    command = ["score", "--dataset", "toy", "--lake", str(lake.root), "--day", DAY]
    for switched_on, options in ((False, []), (False, ["--embeddings=off"]), (True, ["--embeddings=on"])):
        monkeypatch.setattr("sys.argv", [*command, *options])
        score.main()
        partition = lake["user_embeddings", TOY, DAY]
        assert (partition.manifest is not None) == switched_on
        assert (str(partition.path) in capsys.readouterr().out) == switched_on


def test_settings_that_are_not_given_have_their_standing_values(monkeypatch):
    def chosen(**options):
        arguments = {"basis": None, "exploration": None, "embeddings": None} | options
        return score.settings_of(SimpleNamespace(**arguments), TOY)

    assert chosen() == score.Settings("gate", 0.0, False)
    monkeypatch.setenv("MTORL_BASIS_TOY", "constant")
    monkeypatch.setenv("MTORL_EXPLORATION_TOY", "0.05")
    monkeypatch.setenv("MTORL_EMBEDDINGS_TOY", "on")
    assert chosen() == score.Settings("constant", 0.05, True)
    settings = {"basis": "value", "exploration": 0.0, "embeddings": "off"}
    assert chosen(**settings) == score.Settings("value", 0.0, False)
    for variable in ("BASIS", "EXPLORATION", "EMBEDDINGS"):
        monkeypatch.setenv(f"MTORL_{variable}_TOY", "")  # an empty one counts as none
    assert chosen() == score.Settings("gate", 0.0, False)
    for variable, fault in (("BASIS", "set it to one of gate, value"), ("EXPLORATION", "set it to a share"),
                            ("EMBEDDINGS", "set it to one of on, off")):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setenv(f"MTORL_{variable}_TOY", "yes, please")
            with pytest.raises(UserError, match=f"MTORL_{variable}_TOY is 'yes, please': {fault}"):
                chosen()
