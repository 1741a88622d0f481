"""Scorers whose conditionals are laws, and the ends of perplexity and entropy, which are known."""

import itertools
import math

import numpy as np
import pytest
import torch

from lodim.discrete.sequences import (
    NGramScorer,
    SequenceScorer,
    bits_per_dim,
    generative_perplexity,
    sequence_entropy,
)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_a_scorers_masses_sum_to_one_however_long_the_sequences(order):
    rng = np.random.default_rng(0)
    scorer = NGramScorer(3, order, alpha=0.5).fit(rng.integers(3, size=(20, 5)))
    assert isinstance(scorer, SequenceScorer)
    for length in (1, 2, 5):
        every = np.array([*itertools.product(range(3), repeat=length)])
        assert np.exp(scorer.score_samples(every)).sum() == pytest.approx(1)


def test_smoothed_counts_are_those_of_the_formula():
    scorer = NGramScorer(3, 2, alpha=0.1).fit([[0, 1, 1, 2], [1, 1, 1, 1]])
    # begins: one 0, one 1; after 1: four times 1, once 2; after 2 nothing
    expected = math.log(1.1 / 2.3) + math.log(4.1 / 5.3) + math.log(1.1 / 5.3) + math.log(0.1 / 0.3)
    assert scorer.score_samples([[1, 1, 2, 0]]) == pytest.approx([expected])
    found = scorer.score_samples(torch.tensor([[1, 1, 2, 0]]))
    assert isinstance(found, torch.Tensor)
    assert float(found) == pytest.approx(expected)


def test_the_true_order_is_found_by_the_least_perplexity_of_fresh_sequences():
    """A second-order chain: a longer context has more to learn, a shorter one knows less."""
    rng = np.random.default_rng(0)
    law = rng.dirichlet([0.3] * 4, size=(4, 4))
    x = rng.integers(4, size=(2000, 12))
    for place in range(2, 12):
        p = law[x[:, place - 2], x[:, place - 1]].cumsum(1)
        x[:, place] = (rng.random((2000, 1)) > p).sum(1).clip(max=3)
    train, fresh = x[:1000], x[1000:]
    found = [
        generative_perplexity(fresh, NGramScorer(4, order).fit(train)).perplexity for order in (1, 2, 3, 5)
    ]
    assert found[0] > found[1] > found[2] < found[3]
    # the chain's own figure, two uniform tokens first; within four standard errors
    logs = np.log(law[x[:, :-2], x[:, 1:-1], x[:, 2:]]).sum(1) - 2 * math.log(4)
    judged = generative_perplexity(fresh, NGramScorer(4, 3).fit(train))
    assert judged.perplexity == pytest.approx(math.exp(-logs.mean() / 12), abs=4 * judged.perplexity_se)


def test_a_uniform_judge_gives_the_number_of_tokens():
    every = np.array([*itertools.product(range(5), repeat=2)])
    found = generative_perplexity(np.arange(10).reshape(1, 10) % 5, NGramScorer(5, 1).fit(every))
    assert found.perplexity == pytest.approx(5)
    assert found.entropy == pytest.approx(math.log(5))
    assert (found.n, found.length) == (1, 10)
    assert math.isnan(found.perplexity_se)  # of one sequence


def test_a_perplexitys_error_is_that_of_repeated_samples():
    rng = np.random.default_rng(1)
    p = np.array([0.6, 0.3, 0.1])
    scorer = NGramScorer(3, 1).fit(rng.choice(3, size=(500, 8), p=p))
    found = [generative_perplexity(rng.choice(3, size=(100, 8), p=p), scorer) for _ in range(400)]
    for name in ("perplexity", "entropy"):
        spread = np.std([getattr(one, name) for one in found])
        told = np.mean([getattr(one, f"{name}_se") for one in found])
        assert told == pytest.approx(spread, rel=4 / math.sqrt(2 * 400))  # four errors of a deviation


def test_entropy_is_least_for_a_constant_and_most_for_a_permutation():
    assert sequence_entropy([[7, 7, 7]]) == 0
    assert sequence_entropy(np.random.default_rng(0).permuted(np.tile(np.arange(6), (9, 1)), axis=1)) == (
        pytest.approx(math.log(6))
    )
    mixed = [[0, 0, 1, 1], [3, 3, 3, 3]]
    assert sequence_entropy(mixed) == pytest.approx(math.log(2) / 2)
    assert (
        sequence_entropy(torch.tensor(mixed)) == sequence_entropy(["aabb", "dddd"]) == sequence_entropy(mixed)
    )


def test_few_tokens_buy_perplexity_and_entropy_tells():
    """The flaw that the second figure is for: samples of the likeliest token beat real ones."""
    rng = np.random.default_rng(0)
    real = rng.choice(4, size=(200, 16), p=[0.55, 0.25, 0.15, 0.05])
    scorer = NGramScorer(4, 1).fit(real)
    honest, bought = (generative_perplexity(x, scorer) for x in (real, np.zeros_like(real)))
    assert bought.perplexity < 0.7 * honest.perplexity
    assert bought.entropy == 0 < honest.entropy
    assert "entropy" in str(bought)


def test_bits_are_nats_over_log_two_a_place():
    assert bits_per_dim(-16 * math.log(2), 8) == pytest.approx(2)
    assert torch.equal(bits_per_dim(torch.zeros(3), 4), torch.zeros(3))
    with pytest.raises(ValueError, match="n_dims"):
        bits_per_dim(-1.0, 0)


def test_bad_input_is_named():
    scorer = NGramScorer(3, 2)
    with pytest.raises(RuntimeError, match="call fit"):
        scorer.score_samples([[0, 1]])
    scorer.fit([[0, 1, 2]])
    for wrong, said in (
        ([[0, 3]], "from 0 to 2, got 0 to 3; places that are still hidden"),
        ([[-1, 0]], "got -1 to 0"),
        ([0, 1], r"a single one is x\[None\]"),
        ([[0.5, 1.0]], "whole numbers"),
        (np.zeros((0, 4), dtype=int), "at least one"),
        (["ab"], "a vocabulary's encode"),
    ):
        with pytest.raises(ValueError, match=said):
            scorer.score_samples(wrong)
    with pytest.raises(ValueError, match="one length"):
        sequence_entropy(["ab", "abc"])
    with pytest.raises(ValueError, match="lower order"):
        NGramScorer(50_257, 5)
    with pytest.raises(ValueError, match="alpha"):
        NGramScorer(3, alpha=0)
    with pytest.raises(TypeError, match="scorer"):
        generative_perplexity([[0]], object())
    scorer.score_samples = lambda x: np.array([-np.inf])
    with pytest.raises(ValueError, match="0 finite ones"):
        generative_perplexity([[0]], scorer)
