import pytest
import torch

from mtorl_model.methods.common.embedding import CategoricalEmbedding, embedding_size


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_embedding_looks_each_input_up_in_its_own_table():
    embedding = CategoricalEmbedding((5, 700))
    codes_BLK = torch.tensor([[[4, 699]]])
    first, second = embedding(codes_BLK)
    assert torch.equal(first[0, 0], embedding.tables[0].weight[4])
    assert torch.equal(second[0, 0], embedding.tables[1].weight[699])
    assert embedding.size == first.shape[-1] + second.shape[-1]


def test_category_dropout_hides_an_input_at_every_step_of_a_window_and_only_while_training():
    embedding = CategoricalEmbedding((50, 50), dropout=0.3)
    codes_BLK = torch.full((2000, 3, 2), 7)
    known_E, hidden_E = embedding.tables[0].weight[7], embedding.tables[0].weight[0]
    vectors_BLE = embedding.train()(codes_BLK)[0]
    hidden_BL = (vectors_BLE == hidden_E).all(-1)
    assert torch.equal(vectors_BLE, torch.where(hidden_BL.unsqueeze(-1), hidden_E, known_E))
    assert torch.equal(hidden_BL.all(1), hidden_BL.any(1))
    assert 0.25 < hidden_BL.float().mean() < 0.35
    hidden_second_BL = (embedding(codes_BLK)[1] == embedding.tables[1].weight[0]).all(-1)
    assert not torch.equal(hidden_BL, hidden_second_BL)
    assert torch.equal(embedding.eval()(codes_BLK)[0], known_E.expand(2000, 3, -1))


def test_embedding_size_grows_with_the_vocabulary_and_stays_small():
    sizes = [embedding_size(v) for v in (1, 2, 10, 100, 700, 10**6)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (2, 32)


def test_all_tables_have_the_width_that_is_set():
    vectors = CategoricalEmbedding((5, 700), width=6)(torch.zeros(2, 3, 2).long())
    assert [tuple(vectors_BLE.shape) for vectors_BLE in vectors] == [(2, 3, 6), (2, 3, 6)]
