"""Samplers against a law that can be enumerated, and what of a prompt, a budget and a block must hold."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from lodim.discrete import MaskedDiffusion, Unmasking
from lodim.discrete.masked_diffusion import hitting_shares

N = 20_000


def noisy_model(v=3, length=3, seed=0):
    """Conditionals of no joint law: what is sampled hangs on the order."""
    draws = torch.Generator().manual_seed(seed)
    table = 1.5 * torch.randn(*[v + 1] * length, length, v, generator=draws, dtype=torch.float64)
    net = torch.nn.Identity()
    net.forward = lambda x, t=None, y=None: table[tuple(x.T)]
    return MaskedDiffusion(v, length, net)


def reverse_law(model):
    """The law of the reverse process: the mean over all orders of the chain rule."""
    x = torch.tensor([*itertools.product(range(model.n_tokens), repeat=model.length)])
    orders = [*itertools.permutations(range(model.length))]
    return sum(model.log_prob(x, torch.tensor(o)).double().exp() for o in orders) / len(orders)


def frequencies(tokens, v):
    tokens = torch.from_numpy(tokens)
    codes = (tokens * v ** torch.arange(tokens.shape[1]).flip(0)).sum(1)
    return torch.bincount(codes, minlength=v ** tokens.shape[1]).double()


def chi_square(counts, law):
    return float(((counts - counts.sum() * law) ** 2 / (counts.sum() * law)).sum())


def test_first_hitting_is_exact_and_fewer_calls_are_not():
    model = noisy_model()
    law = reverse_law(model)
    assert float(law.sum()) == pytest.approx(1)
    exact = model.unmask(N, generator=0, batch_size=N)
    assert exact.nfe == 3
    assert chi_square(frequencies(exact.tokens, 3), law) < 54.1  # 26 degrees: one in a thousand
    hasty = model.unmask(N, generator=0, steps=1, batch_size=N)
    assert hasty.nfe == 1
    assert chi_square(frequencies(hasty.tokens, 3), law) > 500


@pytest.mark.parametrize("two_stage", [True, False])
def test_ancestral_approaches_the_same_law(two_stage):
    model = noisy_model()
    law = reverse_law(model)
    options = {"sampler": "ancestral", "two_stage": two_stage, "generator": 0, "batch_size": N}
    far = chi_square(frequencies(model.unmask(N, steps=4, **options).tokens, 3), law)
    near = chi_square(frequencies(model.unmask(N, steps=256, **options).tokens, 3), law)
    assert near < 54.1 + 0.02 * far  # what N equal steps leave falls with N squared in chi-square
    assert far > 300


def test_shares_fall_as_sorted_uniform_numbers_do():
    shares = hitting_shares(torch.full((4000,), 5), 8, torch.Generator().manual_seed(0))
    assert bool((shares[:, :5].diff(dim=1) < 0).all())
    assert bool((shares[:, 5:] == 0).all())
    for k in range(5):  # the k-th largest of 5
        assert kstest(shares[:, k].numpy(), "beta", args=(5 - k, k + 1)).pvalue > 0.001


@pytest.mark.parametrize("n", [1, 64])
def test_a_call_a_place_whatever_the_batch(n):
    model = MaskedDiffusion([3] * 7, random_state=0)
    found = model.unmask(n, generator=0)
    assert found.nfe == 7
    assert (found.tokens < 3).all()
    assert (np.sort(found.ranks, 1) == np.arange(7)).all()
    by_rank = np.take_along_axis(found.times, found.ranks.argsort(1), 1)
    assert (np.diff(by_rank, axis=1) < 0).all()


def test_a_budget_is_kept_and_too_much_of_it_is_said():
    model = MaskedDiffusion([3] * 7, random_state=0)
    found = model.unmask(9, steps=3, generator=0)
    assert found.nfe == 3
    assert sorted(np.bincount(found.ranks[0]).tolist()) == [2, 2, 3]
    with pytest.warns(UserWarning, match="more than the 7 places"):
        assert model.unmask(9, steps=12, generator=0).nfe == 7
    calls = [model.unmask(1, sampler="ancestral", steps=500, cache=c, generator=0).nfe for c in (True, False)]
    assert calls[0] <= 7
    assert calls[1] == 500


def test_prompts_stay_and_rows_may_have_prompts_of_their_own():
    model = MaskedDiffusion([3] * 4, random_state=0)
    prompt = np.array([[3, 1, 3, 3], [0, 1, 2, 0], [3, 3, 3, 3]])
    for options in ({}, {"steps": 2}, {"sampler": "ancestral", "steps": 9}, {"block_size": 2}):
        found = model.unmask(prompt=prompt, generator=0, **options)
        given = prompt != 3
        assert (found.tokens[given] == prompt[given]).all()
        assert ((found.ranks < 0) == given).all()
        assert (np.isnan(found.times) == given).all()
        assert (found.tokens < 3).all()
    assert model.sample(5, prompt=prompt[:1], generator=0)[:, 1].tolist() == [1] * 5
    with pytest.raises(ValueError, match="3 prompts"):
        model.sample(5, prompt=prompt)
    assert model.sample(0).shape == (0, 4)


def test_blocks_go_from_left_to_right():
    found = MaskedDiffusion([3] * 6, random_state=0).unmask(40, block_size=2, generator=0)
    assert (found.ranks[:, :2] < 2).all()
    assert (found.ranks[:, 4:] >= 4).all()
    assert len({tuple(row) for row in found.ranks.tolist()}) == 8
    with pytest.raises(ValueError, match="block_size are of first hitting"):
        MaskedDiffusion([3] * 6).sample(sampler="ancestral", block_size=2)


def test_second_order_moves_answers_along_a_line():
    """Logits linear in time: extrapolated, they are those of each place's own moment."""
    slope = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    offset = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    net = torch.nn.Identity()

    def forward(x, t):
        z = (offset + slope * t[:, None]).log_softmax(-1)
        return z[:, None].expand(*x.shape, 3)

    net.forward = forward
    model = MaskedDiffusion(3, 40, net, objective="time", time_conditioning=True)
    found = {o: model.unmask(1500, steps=4, order=o, generator=0, batch_size=1500) for o in (1, 2)}
    late = found[1].ranks == 3  # the last call speaks for ten places
    times = found[1].times[late]
    middle = (offset + slope * torch.from_numpy(times)[:, None]).softmax(-1).mean(0)
    shares = {
        o: torch.from_numpy(np.bincount(f.tokens[late], minlength=3)).double() for o, f in found.items()
    }
    n = late.sum()
    error = {o: float((share / n - middle).abs().max()) for o, share in shares.items()}
    assert error[2] < 4 * 0.5 / math.sqrt(n)
    assert error[1] > 2 * error[2]


def one_place(p=(0.5, 0.25, 0.15, 0.1)):
    """A network that knows the law of its single place."""
    net = torch.nn.Identity()
    net.forward = lambda x, t=None, y=None: torch.tensor(p, dtype=torch.float64).log().expand(len(x), 1, -1)
    return MaskedDiffusion(len(p), 1, net)


@pytest.mark.parametrize("sampler", ["first_hitting", "ancestral"])
@pytest.mark.parametrize(
    ("options", "law"),
    [
        ({"top_p": 0.7}, [2 / 3, 1 / 3, 0, 0]),
        ({"temperature": 0.5}, np.array([0.25, 0.0625, 0.0225, 0.01]) / 0.345),
        ({}, [0.5, 0.25, 0.15, 0.1]),
    ],
)
def test_temperature_and_top_p_draw_from_their_law(sampler, options, law):
    tokens = one_place().unmask(N, sampler=sampler, generator=0, batch_size=N, **options).tokens[:, 0]
    error = np.abs(np.bincount(tokens, minlength=4) / N - law)
    assert (error <= 4 * np.sqrt(np.multiply(law, np.subtract(1, law)) / N)).all()


def test_a_seed_draws_the_same_whatever_drew_before():
    model = MaskedDiffusion([3] * 4, random_state=0)
    first = model.sample(30, generator=0)
    assert torch.equal(first, model.sample(30, generator=0))
    assert not torch.equal(first, model.sample(30, generator=1))


def test_batches_have_their_own_rows_and_classes():
    """A network that answers with the class, and refuses more than seven rows."""
    net = torch.nn.Identity()

    def forward(x, y):
        assert len(x) <= 7
        return torch.nn.functional.one_hot(y, 3)[:, None].expand(*x.shape, 3) * 100.0

    net.forward = forward
    model, y = MaskedDiffusion(3, 2, net, n_classes=3), np.arange(30) % 3
    for options in ({}, {"sampler": "ancestral", "steps": 4}):
        assert (model.unmask(y=y, batch_size=7, generator=0, **options).tokens == y[:, None]).all()
    assert (model.impute(np.full((30, 2), np.nan), y, batch_size=7).numpy() == y[:, None]).all()
    with pytest.raises(ValueError, match=r"5 classes, one a sequence, got shape \(30,\)"):
        model.sample(5, y=y)
    assert model.sample(0, y=1).shape == (0, 2)


def test_what_is_seen_of_a_step_is_not_changed_by_the_next():
    model, steps, frames = MaskedDiffusion([3] * 4, random_state=0), [], []
    model.sample(2, on_step=lambda x: (steps.append(int((x == 3).sum())), frames.append(x)), generator=0)
    assert steps == [6, 4, 2, 0] == [int((x == 3).sum()) for x in frames]


def timed_model(schedule):
    """Conditionals of no joint law that move with the time."""
    draws = torch.Generator().manual_seed(1)
    table = 1.2 * torch.randn(3, 3, 2, 2, generator=draws, dtype=torch.float64)
    slope = 3 * torch.randn(2, 2, generator=draws, dtype=torch.float64)
    net = torch.nn.Identity()
    net.forward = lambda x, t: table[tuple(x.T)] + slope * t[:, None, None]
    return MaskedDiffusion(2, 2, net, schedule=schedule, objective="time", time_conditioning=True)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_network_with_time_is_asked_at_the_time_of_each_place(schedule):
    """Two places are uncovered at the larger and the smaller of two uniform shares: a mean over those is the law."""
    model, x = timed_model(schedule), torch.tensor([*itertools.product(range(2), repeat=2)])
    at, weights = np.polynomial.legendre.leggauss(16)
    at, weights = torch.from_numpy((at + 1) / 2), torch.from_numpy(weights / 2)
    law = torch.zeros(4, dtype=torch.float64)
    for s, ws in zip(
        at, weights, strict=True
    ):  # density of the larger share: 2 s; the other is uniform below it
        for u, wu in zip(at, weights, strict=True):
            late, early = (model.schedule.time(share).expand(4) for share in (s, s * u))
            for first, second in ((0, 1), (1, 0)):
                hidden = torch.full_like(x, 2)
                one = model.log_probs(hidden, late)[torch.arange(4), first, x[:, first]]
                hidden[:, first] = x[:, first]
                two = model.log_probs(hidden, early)[torch.arange(4), second, x[:, second]]
                law += ws * wu * 2 * s * (one + two).exp() / 2
    assert float(law.sum()) == pytest.approx(1, abs=1e-6)
    limit = 16.3  # of chi-square with 3 degrees: one in a thousand
    assert chi_square(frequencies(model.unmask(N, generator=0, batch_size=N).tokens, 2), law) < limit
    for two_stage in (True, False):
        options = {"sampler": "ancestral", "steps": 512, "two_stage": two_stage, "generator": 0}
        assert chi_square(frequencies(model.unmask(N, batch_size=N, **options).tokens, 2), law) < limit


def test_ancestral_asks_at_the_beginning_of_each_step_and_tells_its_end():
    asked, model = [], timed_model("cosine")
    forward = model.backbone.forward
    model.backbone.forward = lambda x, t: (asked.append(t.tolist()), forward(x, t))[1]
    options = {"sampler": "ancestral", "generator": 0}
    found = model.unmask(3, steps=4, cache=False, **options)
    assert np.allclose(asked, np.repeat([[1.0], [0.75], [0.5], [0.25]], 3, axis=1))
    assert np.allclose(found.times, 0.75 - 0.25 * found.ranks)
    assert (model.unmask(3, steps=1, **options).times == 0).all()
    assert model.unmask(3, cache=False, **options).nfe == 128  # the default
    # drawn together with the mask, an answer that has moved with the time must not be kept; of one row it would be
    assert model.unmask(1, steps=50, two_stage=False, **options).nfe == 50
    assert noisy_model().unmask(1, steps=50, two_stage=False, **options).nfe <= 3


def test_second_order_looks_no_further_ahead_than_the_last_step_was_long():
    """Log-odds of 1,500, then 1,000: beyond twice the last step the line is negative."""
    odds, net = [], torch.nn.Identity()

    def forward(x):
        odds.append(1500.0 if bool((x == 2).all()) else 1000.0)
        return torch.tensor([0.0, odds[-1]]).expand(*x.shape, 2)

    net.forward = forward
    found = MaskedDiffusion(2, 8, net).unmask(500, steps=2, order=2, generator=0)
    assert odds == [1500.0, 1000.0]
    assert (found.tokens == 1).all()
    ends = [np.where(found.ranks == call, found.times, 2.0).min(1) for call in (0, 1)]
    starts = [np.where(found.ranks == call, found.times, -1.0).max(1) for call in (0, 1)]
    assert ((starts[1] - ends[1]) / (starts[0] - starts[1]) > 2).any()  # such rows were among them


def test_the_law_given_a_prompt_and_the_law_of_blocks():
    model, x = noisy_model(), torch.tensor([*itertools.product(range(3), repeat=3)])
    blocks = sum(model.log_prob(x, torch.tensor(o)).double().exp() for o in ((0, 1, 2), (1, 0, 2))) / 2
    drawn = model.unmask(N, block_size=2, generator=1, batch_size=N).tokens
    assert chi_square(frequencies(drawn, 3), blocks) < 54.1
    given = torch.zeros(9, dtype=torch.float64)  # of places 0 and 2, the middle one being 1
    ends = x[x[:, 1] == 1]
    for first, second in ((0, 2), (2, 0)):
        state = torch.tensor([[3, 1, 3]]).repeat(9, 1)
        one = model.log_probs(state)[torch.arange(9), first, ends[:, first]]
        state[:, first] = ends[:, first]
        given += (one + model.log_probs(state)[torch.arange(9), second, ends[:, second]]).exp() / 2
    drawn = model.unmask(N, prompt=np.array([[np.nan, 1, np.nan]]), generator=1, batch_size=N).tokens
    assert chi_square(frequencies(drawn[:, [0, 2]], 3), given) < 26.1  # 8 degrees


def test_options_of_the_other_sampler_are_refused():
    model = MaskedDiffusion([3] * 4, random_state=0)
    with pytest.raises(ValueError, match="cache and two_stage are of ancestral"):
        model.sample(two_stage=False)
    with pytest.raises(ValueError, match="order and block_size are of first hitting"):
        model.sample(sampler="ancestral", order=2)


def test_the_record_of_an_unmasking_is_drawn_and_kept():
    found = MaskedDiffusion([3] * 4, random_state=0).unmask(2, generator=0)
    ax = found.plot(texts=[list("abcd")] * 2)
    assert len(ax.texts) == 8
    assert ax.get_xlabel() == "place"
    assert str(found) == "2 sequences of 4 tokens in 4 calls"
    again = Unmasking.from_json(found.to_json())
    assert again == found


@functools.cache
def zipf_model():
    """Every place has the same law of 400 tokens, whatever else is there."""
    logits = -1.1 * torch.arange(1, 401).log()
    net = torch.nn.Identity()
    net.forward = lambda x, t=None, y=None: logits.expand(*x.shape, -1)
    return MaskedDiffusion(400, 16, net)


def test_coarse_numbers_sharpen_the_draws_of_small_steps():
    """Beside the mask a token has a mass of 1 / steps: eleven bits cannot tell the rare ones from nothing."""
    options = {"sampler": "ancestral", "steps": 64, "batch_size": 300, "generator": 0}
    exact = zipf_model().unmask(300, **options).tokens
    coarse = zipf_model().unmask(300, two_stage=False, dtype=torch.float16, **options).tokens
    rare = [(tokens >= 100).mean() for tokens in (exact, coarse)]
    p = torch.softmax(-1.1 * torch.arange(1, 401).log(), 0)[100:].sum()
    assert abs(rare[0] - float(p)) < 4 * math.sqrt(float(p) / 4800)
    assert rare[1] < 0.5 * rare[0]
