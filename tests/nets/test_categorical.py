"""Draws of tokens: frequencies, the flaw of coarse noise that is avoided, two stages, what is left out."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, chisquare

from lodim.nets import categorical, keep_likely, sample_categorical

P = torch.tensor([0.5, 0.3, 0.15, 0.049, 0.001], dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def counts(p, n, **options):
    drawn = sample_categorical(p.log().expand(n, -1), generator=seeded(), **options)
    return np.bincount(drawn[drawn >= 0], minlength=len(p))


def truncated_law(p, bits):
    """Probabilities of Gumbel-max with noise cut at M (arXiv 2409.02908, section 4), p ascending."""
    e = -np.log1p(-(2.0**-bits))
    p, K = np.r_[0.0, p], len(p)
    S = np.array([p[i:].sum() for i in range(1, K + 1)])
    first, last = (np.exp((K - np.arange(K)) * e - S * e / np.maximum(q, 1e-300)) for q in (p[1:], p[:-1]))
    return p[1:] * np.cumsum((first - last) / S)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_frequencies_are_the_probabilities_whatever_the_logits_precision(dtype):
    logits = P.log().to(dtype).expand(200_000, -1)
    found = np.bincount(sample_categorical(logits, generator=seeded()), minlength=5)
    expected = logits[0].double().softmax(-1).numpy()
    assert chisquare(found, expected * found.sum()).pvalue > 1e-3


def test_a_scale_of_the_masses_does_not_matter():
    logits = P.double().log().expand(5000, -1)
    drawn = (sample_categorical(logits + shift, generator=seeded()) for shift in (0.0, -1024.0))
    assert torch.equal(*drawn)


def test_coarse_noise_follows_the_truncated_law_and_float64_does_not():
    p = torch.tensor([2.0**-12, 2.0**-11, 2.0**-10, 0.1, 0.9], dtype=torch.float64)
    p = p / p.sum()
    n = 400_000
    coarse, exact = counts(p, n, dtype=torch.float16), counts(p, n)
    law = truncated_law(p.numpy(), 11)
    assert law[0] < 0.75 * p[0]  # the rare lose
    assert law[-1] > p[-1]  # and the likely gain
    assert chisquare(exact, p * n).pvalue > 1e-3
    assert chisquare(coarse, p * n).pvalue < 1e-10
    np.testing.assert_allclose(coarse / n, law, atol=5e-4)


def test_a_category_of_one_in_a_thousand_million_can_be_drawn(monkeypatch):
    """Beside a likely one whose noise is at its median, it wins below the quantile that its mass gives."""
    logits = torch.tensor([1.0, 1e-9]).log().expand(3, -1)
    rare = 1e-9 * np.log(2)  # it wins if -log(U) / 1e-9 < log 2, the likely one's
    quantiles = torch.tensor(
        [[0.5, 1 - q] for q in (0.99 * rare, 1.01 * rare, 2.0**-24)], dtype=torch.float64
    )
    monkeypatch.setattr(categorical, "_uniform", lambda *_: quantiles)
    assert sample_categorical(logits).tolist() == [1, 0, 0]  # the last is the finest float32 has to offer


def test_two_stages_first_whether_then_which():
    stay = torch.full((200_000,), 0.9)
    drawn = sample_categorical(P.log().expand(200_000, -1), stay=stay, generator=seeded(1))
    moved = drawn[drawn >= 0]
    assert binomtest(len(moved), 200_000, 0.1).pvalue > 1e-3
    assert chisquare(np.bincount(moved, minlength=5), P * len(moved)).pvalue > 1e-3
    rows = P.log().expand(2, 3, -1)
    ends = torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    assert torch.equal(sample_categorical(rows, stay=ends) == -1, ends == 1)


def test_two_stages_undo_the_flaw_of_coarse_noise():
    """One token of mass 1e-4 each beside a mask symbol: in one stage coarse noise all but loses it."""
    n, mass = 200_000, 3e-4
    one = torch.tensor([1 - mass, mass]).expand(n, -1).log()
    lost = int(sample_categorical(one, generator=seeded(), dtype=torch.float16).sum())
    stay = torch.full((n,), 1 - mass, dtype=torch.float64)
    kept = sample_categorical(torch.zeros(n, 1), stay=stay, generator=seeded(), dtype=torch.float16)
    assert lost < 0.5 * mass * n
    assert binomtest(int((kept == 0).sum()), n, mass).pvalue > 1e-3


def test_never_what_is_impossible_and_any_batch_shape():
    logits = torch.zeros(7, 2, 3, 4)
    logits[..., 2] = -torch.inf
    drawn = sample_categorical(logits, generator=seeded())
    assert drawn.shape == (7, 2, 3)
    assert not bool((drawn == 2).any())
    assert sample_categorical(torch.zeros(4)).shape == ()
    assert sample_categorical(torch.zeros(0, 4)).shape == (0,)
    assert sample_categorical(torch.zeros(3, 1)).tolist() == [0, 0, 0]
    turned = torch.randn(4, 50, generator=seeded()).T  # not contiguous
    same = (sample_categorical(x, generator=seeded()) for x in (turned, turned.contiguous()))
    assert torch.equal(*same)


def test_a_generator_decides_and_the_global_one_is_left_alone():
    logits, state = torch.zeros(100, 9), torch.get_rng_state()
    a, b, c = (sample_categorical(logits, generator=seeded(s)) for s in (3, 3, 4))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("bad", [-torch.inf, torch.nan, torch.inf])
def test_rows_that_are_no_distribution_are_named(bad):
    logits = torch.zeros(2, 3)
    logits[1] = bad
    with pytest.raises(ValueError, match="row 1 of the logits"):
        sample_categorical(logits)
    with pytest.raises(ValueError, match="at least one category"):
        sample_categorical(torch.zeros(2, 0))
    with pytest.raises(ValueError, match="between 0 and 1"):
        sample_categorical(torch.zeros(2, 3), stay=torch.tensor([0.5, 1.5]))


def test_what_is_kept():
    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.25, 0.25, 0.25, 0.25]]).log()
    kept = keep_likely(logits, top_k=2).isfinite()
    assert kept.tolist() == [[False, True, False, True], [True, True, False, False]]
    assert keep_likely(logits, top_p=0.65).isfinite().tolist() == [
        [False, True, False, True],
        [True] * 3 + [False],
    ]
    assert keep_likely(logits, top_k=3, top_p=0.44).isfinite().sum(-1).tolist() == [
        1,
        2,
    ]  # of what top_k left
    assert keep_likely(logits, top_p=0.0).isfinite().sum(-1).tolist() == [1, 1]
    assert torch.equal(keep_likely(logits, top_k=9, top_p=1.0), logits)
    torch.testing.assert_close(keep_likely(logits, temperature=0.5), 2 * logits)
    for wrong in ({"top_k": 0}, {"top_p": 1.2}, {"temperature": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            keep_likely(logits, **wrong)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_low_temperature_leaves_the_likeliest_whatever_the_precision(dtype):
    large = torch.finfo(dtype).max / 100
    logits = torch.tensor([[1.0, large / 2, large], [-large, -large / 2, -torch.inf]], dtype=dtype)
    kept = keep_likely(logits, temperature=1e-5)
    assert kept.softmax(-1).tolist() == [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    assert sample_categorical(kept).tolist() == [2, 1]


def test_a_share_of_one_keeps_every_category():
    logits = torch.tensor([0.0, -50.0, -torch.inf, -800.0], dtype=torch.float64)  # exp(-50) is lost beside 1
    assert torch.equal(keep_likely(logits, top_p=1.0), logits)


def test_no_categories_and_an_infinite_temperature_are_refused():
    with pytest.raises(ValueError, match="at least one category"):
        keep_likely(torch.zeros(2, 0), top_p=0.5)
    with pytest.raises(ValueError, match="temperature"):
        keep_likely(torch.tensor([0.0, -torch.inf]), temperature=np.inf)
