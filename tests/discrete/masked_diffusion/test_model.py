"""The bound in its two forms, the chain rule, and what a prompt or a table may hold."""

import copy
import itertools
import math
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import beta
from torch import nn

from lodim.discrete import CosineSchedule, MaskedDiffusion, PowerSchedule
from lodim.discrete.masking import hidden, random_orders
from lodim.nets import BidirectionalTransformer, DilatedConvNet, ResidualMLP
from lodim.randomness import build_seeded
from lodim.training import DescentRecipe

ORDERS = torch.tensor([*itertools.permutations(range(4))])


class Table(nn.Module):
    """Conditionals read off a joint law of ``length`` tokens; with noise, of no joint law."""

    def __init__(self, joint, noise=0.0, seed=0):
        super().__init__()
        v, length = joint.shape[0], joint.ndim
        draws = torch.Generator().manual_seed(seed)
        states = itertools.product(range(v + 1), repeat=length)
        logits = torch.empty(*[v + 1] * length, length, v, dtype=torch.float64)
        for state in states:
            held = tuple(slice(None) if s == v else s for s in state)
            part = joint[held]
            left = [place for place in range(length) if state[place] == v]
            for place in range(length):
                if place in left:
                    others = [i for i, other in enumerate(left) if other != place]
                    law = part.sum(others) if others else part
                    logits[(*state, place)] = (law / law.sum()).log()
                else:
                    logits[(*state, place)] = 0.0
        logits += noise * torch.randn(logits.shape, generator=draws, dtype=torch.float64)
        self.register_buffer("logits", logits)

    def forward(self, x, t=None, y=None):
        return self.logits[tuple(x.T)]


def law(v=3, length=4, seed=0):
    joint = torch.rand([v] * length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 3
    return joint / joint.sum()


def every(v=3, length=4):
    return torch.tensor([*itertools.product(range(v), repeat=length)])


def exact_nelbo(model, x):
    """The bound by all subsets: sum over n of the mean over sets of n hidden places, over n."""
    total = torch.zeros(len(x), dtype=torch.float64)
    length = x.shape[1]
    for n in range(1, length + 1):
        sets = [*itertools.combinations(range(length), n)]
        for places in sets:
            noisy = x.clone()
            noisy[:, places] = model.mask_id
            found = model.log_probs(noisy).gather(-1, x[..., None])[..., 0]
            total -= found[:, places].sum(1) / n / len(sets)
    return total


def test_all_orders_agree_where_the_conditionals_are_those_of_a_law():
    joint = law()
    model, x = MaskedDiffusion(3, 4, Table(joint)), every()
    along = torch.stack([model.log_prob(x, order) for order in ORDERS])
    expected = joint.flatten().log()
    assert torch.allclose(along, expected.expand_as(along).to(along), atol=1e-6)
    assert torch.allclose(exact_nelbo(model, x), -expected, atol=1e-10)


def test_the_bound_is_the_mean_over_orders_and_jensen_holds():
    model, x = MaskedDiffusion(3, 4, Table(law(), noise=0.7)), every()
    along = torch.stack([model.log_prob(x, order.expand(len(x), -1)) for order in ORDERS]).double()
    assert torch.allclose(along.mean(0), -exact_nelbo(model, x), atol=1e-6)
    assert bool((along.logsumexp(0) - math.log(24) >= along.mean(0) - 1e-9).all())


@pytest.mark.parametrize("schedule", ["linear", "cosine", PowerSchedule(2.0), PowerSchedule(0.1)])
def test_both_forms_estimate_the_same_bound(schedule):
    model, x = MaskedDiffusion(3, 4, Table(law(), noise=0.7), schedule=schedule), every()[::9]
    draws = torch.Generator().manual_seed(1)
    exact = exact_nelbo(model, x)
    for form in ("count", "time"):
        found = torch.stack([model.nelbo(x, n_samples=40, form=form, generator=draws) for _ in range(40)])
        z = (found.mean(0) - exact) / (found.std(0) / math.sqrt(40))
        assert float(z.square().mean()) < 2.5  # chi-square of 9 over 9: above with a chance of 0.8 per cent


def test_a_uniform_network_costs_log_v_a_token_whatever_is_hidden():
    model = MaskedDiffusion(5, 7, Table(torch.full((5, 5), 1 / 25.0)))
    model.backbone.forward = lambda x, t=None, y=None: torch.zeros(*x.shape, 5)
    x = torch.randint(5, (6, 7))
    for n in (1, 3):
        assert torch.allclose(model.nelbo(x, n_samples=n), torch.full((6,), 7 * math.log(5)), atol=1e-4)
    assert float(model.loss(x)) == pytest.approx(math.log(5), rel=1e-5)


def test_what_is_given_is_certain_and_tokens_a_place_lacks_are_impossible():
    model = MaskedDiffusion([2, 4, 3], random_state=0)
    found = model.log_probs(torch.tensor([[1, 4, 4], [4, 3, 4]])).exp()
    assert torch.allclose(found.sum(-1), torch.ones(2, 3))
    assert found[0, 0].tolist() == [0, 1, 0, 0]
    assert found[1, 1].tolist() == [0, 0, 0, 1]
    assert found[1, 0, 2:].tolist() == [0, 0]
    assert found[1, 2, 3].item() == 0


def test_cells_that_are_not_known_count_for_nothing():
    model, x = MaskedDiffusion(3, 4, Table(law(), noise=0.7)), every()
    observed = torch.tensor([True, False, True, False]).expand_as(x)
    other = torch.where(observed, x, torch.randint(3, x.shape))
    bounds = [
        model.nelbo(rows, observed=observed, generator=torch.Generator().manual_seed(2))
        for rows in (x, other)
    ]
    assert torch.equal(*bounds)
    joint = law()
    true = MaskedDiffusion(3, 4, Table(joint))
    pair = joint.sum((1, 3)).log()[x[:, 0], x[:, 2]]
    masked = torch.where(observed, x, 3)
    assert torch.allclose(true.log_prob(masked).double(), pair, atol=1e-6)
    draws = torch.Generator().manual_seed(3)
    many = torch.stack([true.nelbo(x, n_samples=8, observed=observed, generator=draws) for _ in range(40)])
    assert float((many.mean(0) + pair).abs().max()) < 5 * float(many.std(0).max()) / math.sqrt(40)
    nothing = torch.zeros_like(observed)
    assert float(model.loss(x, observed=nothing)) == 0
    with pytest.raises(ValueError, match="those are not known"):
        model.nelbo(masked, observed=~nothing)


def test_marginalising_time_never_makes_the_bound_worse():
    torch.manual_seed(0)
    net = DilatedConvNet(4, 6, width=16, time_conditioning=True)
    nn.init.normal_(net.head.weight)  # an answer that hangs on the time
    nn.init.normal_(net.given.time[2].weight, std=3)
    model = MaskedDiffusion(3, 6, net, schedule="cosine", objective="time", time_conditioning=True)
    average, x = model.time_marginalised(8), torch.randint(3, (30, 6))
    noisy = x.masked_fill(torch.rand(x.shape) < 0.5, 3)
    n = (noisy == 3).sum(1).clamp(min=1)
    times = [
        model.schedule.time(torch.from_numpy(beta.ppf((i + 0.5) / 8, n, 7 - n))) for i in range(8)
    ]  # fmt: skip
    answers = torch.stack([model.log_probs(noisy, t) for t in times]).gather(
        -1, x.expand(8, -1, -1)[..., None]
    )
    better = (average.log_probs(noisy).gather(-1, x[..., None]) - answers.mean(0)).detach()
    assert float(better.min()) > -1e-5
    assert float(better.max()) > 0.01
    assert not average.time_conditioning
    assert model.time_conditioning
    with pytest.raises(ValueError, match="knows no time"):
        average.time_marginalised()
    with pytest.raises(ValueError, match='form="time"'):
        model.nelbo(x)


def test_a_network_with_time_is_told_the_time():
    """Places that know nothing of each other: the bound is the mean of their entropies over a uniform share."""
    offset, slope = torch.tensor([1.0, 0.0, -1.0]), torch.tensor([-2.0, 1.0, 3.0])
    net = nn.Identity()
    net.forward = lambda x, t: (offset + slope * t[:, None].float())[:, None].expand(*x.shape, 3)
    model = MaskedDiffusion(3, 5, net, schedule="cosine", objective="time", time_conditioning=True)
    x = torch.arange(3)[:, None].repeat(1, 5)
    shares = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    exact = -5 * (offset + slope * model.schedule.time(shares)[:, None]).log_softmax(-1).mean(0)
    draws = torch.Generator().manual_seed(0)
    found = torch.stack([model.nelbo(x, form="time", generator=draws) for _ in range(60)]).double()
    assert float(((found.mean(0) - exact) / (found.std(0) / math.sqrt(60))).abs().max()) < 4
    # left out, it is that at which as many are expected to be hidden
    noisy = torch.tensor([[3, 0, 3, 1, 2], [3, 3, 3, 3, 0]])
    times = model.schedule.time(torch.tensor([0.4, 0.8], dtype=torch.float64))
    assert torch.equal(model.log_probs(noisy), model.log_probs(noisy, times))
    assert not torch.allclose(model.log_probs(noisy), model.log_probs(noisy, torch.tensor([0.4, 0.8])))


def test_marginalising_time_keeps_the_classes():
    net = nn.Identity()
    net.forward = lambda x, t, y: nn.functional.one_hot(y, 3)[:, None].expand(*x.shape, 3) * 2.0
    model = MaskedDiffusion(3, 4, net, objective="time", time_conditioning=True, n_classes=3)
    x, y = torch.full((3, 4), 3), torch.arange(3)
    found = model.time_marginalised(4).log_probs(x, y=y)
    assert torch.allclose(found, model.log_probs(x, torch.rand(3), y), atol=1e-6)


@pytest.mark.parametrize("schedule", [PowerSchedule(), PowerSchedule(0.5), CosineSchedule()])
def test_schedules_rise_from_nothing_to_all_and_are_inverted(schedule):
    t = torch.linspace(0.02, 0.98, 30, dtype=torch.float64)
    assert torch.allclose(schedule.time(schedule.share(t)), t)
    assert float(schedule.share(t).diff().min()) > 0
    ends = schedule.share(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert torch.allclose(ends, torch.tensor([0.0, 1.0], dtype=torch.float64))


class Leaky(PowerSchedule):
    """A share of a thousandth is hidden at time 0."""

    def share(self, t):
        return 1e-3 + (1 - 1e-3) * t


def test_a_schedule_that_leaves_tokens_hidden_is_refused():
    with pytest.raises(ValueError, match=r"nothing at time 0 and all at time 1, got shares \[0.001"):
        MaskedDiffusion(3, 4, schedule=Leaky())


def test_orders_are_uniform_and_put_the_unknown_first():
    known = torch.tensor([True, True, False, True]).expand(6000, -1)
    ranks = random_orders(known, torch.Generator().manual_seed(0))
    assert bool((ranks[:, 2] == 0).all())
    codes = (ranks[:, [0, 1, 3]] * torch.tensor([1, 4, 16])).sum(1).unique(return_counts=True)[1]
    assert len(codes) == 6
    assert float(((codes - 1000) ** 2 / 1000).sum()) < 20.5  # chi-square of 5: one in a thousand
    assert hidden(ranks[:1], 3).tolist() == [[True, True, False, True]]
    blocks = random_orders(torch.ones(50, 6, dtype=torch.bool), block_size=2)
    assert bool((blocks[:, :2] < 2).all())
    assert bool((blocks[:, 4:] >= 4).all())


@pytest.mark.trains
@pytest.mark.parametrize("backbone", [ResidualMLP, DilatedConvNet, BidirectionalTransformer])
def test_training_finds_a_law_and_sampling_follows_it(backbone):
    words = torch.tensor([[0, 0, 1], [1, 0, 0], [2, 1, 2]])
    X = words[torch.randint(3, (300,), generator=torch.Generator().manual_seed(0))]
    torch.manual_seed(0)
    model = MaskedDiffusion(3, 3, backbone(4, 3, width=32)).fit(X, steps=150, lr=5e-3)
    drawn = model.sample(200, generator=0)
    among = (drawn[:, None] == words).all(-1).any(1)
    assert float(among.float().mean()) > 0.97
    assert isinstance(drawn, torch.Tensor)
    bound = -model.score_samples(X).mean()
    assert bound < math.log(3) + 0.15


@pytest.mark.trains
def test_classes_steer_what_is_drawn():
    y = np.arange(200) % 2
    X = np.repeat(y[:, None], 4, 1)
    model = MaskedDiffusion(2, 4, ResidualMLP(3, 4, width=32, n_classes=2), n_classes=2)
    model.fit(X, y, steps=200, lr=3e-3)
    drawn = model.sample(20, y=np.arange(20) % 2, generator=0)
    assert isinstance(drawn, np.ndarray)
    assert (drawn == (np.arange(20) % 2)[:, None]).mean() > 0.97
    with pytest.raises(ValueError, match="classes from 0 to 1"):
        model.sample(2, y=2)
    with pytest.raises(ValueError, match="n_classes=0"):
        MaskedDiffusion(2, 4).sample(2, y=0)


@pytest.mark.trains
def test_held_out_rows_choose_the_weights():
    draws = torch.Generator().manual_seed(0)
    X, held = (torch.randint(2, (n, 8), generator=draws) for n in (20, 100))
    kept, last = (
        MaskedDiffusion([2] * 8, backbone=build_seeded(lambda: ResidualMLP(3, 8, width=64, depth=1), 0)).fit(
            X, steps=60, lr=3e-2, **more
        )
        for more in ({"X_val": held}, {})
    )
    assert kept._score(held) > last._score(held) + 0.02
    assert kept.training_.stopped == last.training_.stopped == "budget"


def test_bad_input_is_named():
    model = MaskedDiffusion(3, 4, random_state=0)
    x = torch.tensor([[0, 1, 2, 1]])
    for wrong, said in (
        (torch.tensor([[0, 1, 5, 1]]), "tokens from 0 to 2, .* got 5 in row 0 at place 2"),
        (x[:, :3], r"shape \(n, 4\) with one row at least, got \(1, 3\)"),
        (x[:0], "one row at least"),
        (torch.tensor([[0, 1, 3, 1]]), "holds the mask, 3"),
    ):
        with pytest.raises(ValueError, match=said):
            model.loss(wrong)
    with pytest.raises(ValueError, match="knows no time"):
        model.log_probs(x, torch.ones(1))
    with pytest.raises(ValueError, match="places 0 to 3 once"):
        model.log_prob(x, torch.tensor([0, 1, 1, 2]))
    with pytest.raises(ValueError, match="length must say"):
        MaskedDiffusion(3)
    with pytest.raises(ValueError, match="length is 5, but"):
        MaskedDiffusion([2, 2], 5)
    with pytest.raises(ValueError, match="counts know no time"):
        MaskedDiffusion(3, 4, time_conditioning=True)
    with pytest.raises(RuntimeError, match="fit it"):
        MaskedDiffusion().sample(3)
    with pytest.raises(ValueError, match="whole numbers"):
        model.fit(np.ones((5, 4)) / 2)
    with pytest.raises(TypeError, match="whole numbers"):
        model.sample(prompt=[["a", "b", "c", "d"]])
    with pytest.raises(ValueError, match="one for each token but the mask"):
        MaskedDiffusion(3, 4, BidirectionalTransformer(4, 4, 4)).loss(x)
    nothing = MaskedDiffusion(3, 4)
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(ValueError, match="nothing to learn from"),
    ):
        nothing.fit(np.full((2, 4), np.nan))


def test_state_copies_and_precision():
    model = MaskedDiffusion([2, 3, 2], random_state=0)
    other = MaskedDiffusion([2, 3, 2], random_state=1)
    other.load_state_dict(model.state_dict())
    x = torch.tensor([[1, 3, 0]])
    for twin in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin.log_probs(x), model.log_probs(x))
        assert torch.equal(twin.sample(5, generator=3), model.sample(5, generator=3))
    assert model.to(torch.bfloat16).log_probs(x).dtype == torch.float32
    assert model.double().log_probs(x).dtype == torch.float64


def small(n_tokens=3, length=4, **options):
    return build_seeded(lambda: ResidualMLP(n_tokens + 1, length, width=8, depth=1, **options), 0)


@pytest.mark.trains
def test_a_recipe_is_followed_with_and_without_rows_held_out():
    X = torch.randint(3, (200, 4), generator=torch.Generator().manual_seed(0))
    for recipe, steps in ((DescentRecipe(epochs=3, batch_size=50), 12), (DescentRecipe(steps=7, lr=1e-9), 7)):
        for held in (None, X[:9]):
            model = MaskedDiffusion(3, 4, small())
            before = [p.clone() for p in model.parameters()]
            model.fit(X, X_val=held, recipe=recipe)
            assert model.training_.steps == steps
            moved = max(
                float((p - q).detach().abs().max()) for p, q in zip(model.parameters(), before, strict=True)
            )
            assert (moved < 1e-7) == (recipe.lr == 1e-9)


def test_training_tells_its_progress_writes_checkpoints_and_ends_at_a_deadline(tmp_path):
    X, told = torch.randint(3, (40, 4)), []
    model = MaskedDiffusion(3, 4, small())
    model.fit(X, steps=4, progress=lambda done, _: told.append(done), checkpoint=tmp_path / "run")
    assert told[-1] == 1
    assert any(tmp_path.iterdir())
    assert model.fit(X, steps=4, deadline=0.0).training_.steps == 0


@pytest.mark.trains
def test_classes_of_rows_held_out_choose_the_weights():
    y = np.arange(60) % 2
    X = np.repeat(y[:, None], 4, 1)
    model = MaskedDiffusion(2, 4, small(2, n_classes=2), n_classes=2)
    with pytest.raises(ValueError, match=r"y and y_val, .* go together"):
        model.fit(X, y, X_val=X)
    with pytest.raises(ValueError, match="y_val was given without X_val"):
        model.fit(X, y, y_val=y)
    with pytest.raises(ValueError, match=r"y_val must be 60 classes, one a sequence, got shape \(3,\)"):
        model.fit(X, y, X_val=X, y_val=y[:3])
    model.fit(X, y, X_val=X, y_val=y, steps=9)
    assert model.training_.history[-1].score == pytest.approx(
        model.score_samples(X, y, n_samples=8, random_state=0).mean() / 4, rel=1e-4
    )
    with pytest.warns(UserWarning, match="never seen a sequence without a class"):
        model.score_samples(X)
    model.fit(X, np.where(y == 0, -1, y), steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.score_samples(X)


def test_classes_of_empty_rows_go_with_them():
    X = np.where(np.arange(8)[:, None] < 4, np.nan, np.ones((8, 4)))
    y = np.where(np.arange(8) < 4, 0, 1)
    seen = []
    net = small(2, n_classes=2)
    net.register_forward_pre_hook(lambda _, x, given: seen.append(given["y"]), with_kwargs=True)
    with pytest.warns(UserWarning, match="4 of 8 rows"):
        MaskedDiffusion(2, 4, net, n_classes=2).fit(X, y, steps=3)
    assert torch.cat(seen).unique().tolist() == [1]


def test_what_could_not_be_fitted_leaves_no_trace():
    model = MaskedDiffusion(random_state=0)
    for X, y, more in (
        (["ab", "ba"], [0, 1], {}),
        (np.eye(3, dtype=int), None, {"X_val": np.full((2, 3), 7)}),
        (np.full((2, 4), np.nan), None, {}),
        ([[0, 10**12]], None, {}),
    ):
        with pytest.raises(ValueError, match=r"n_classes=0|tokens from 0 to 1|nothing to learn|np.unique"):
            model.fit(X, y, **more)
        assert not list(model.parameters())
    assert len(model.fit(["xyz", "zyx"], steps=1).sample(3)[0]) == 3


def test_one_more_token_than_were_fitted_is_no_gap():
    model = MaskedDiffusion(random_state=0).fit([[0, 1, 2], [2, 1, None]], steps=1)
    for ask in (model.score_samples, model.fit, lambda X: model.fit(model.sample(2), X_val=X)):
        with pytest.raises(
            ValueError, match="holds 3, and what was fitted first had tokens from 0 to 2 only"
        ):
            ask([[3, 0, 1]])
    assert model.score_samples([[None, 0, 1]]) == model.score_samples(np.array([[np.nan, 0, 1]]))
    assert model.impute(np.array([[3, 0, 1]]))[0, 1:].tolist() == [0, 1]
    named = MaskedDiffusion(3, 3, random_state=0)  # who has said how many there are knows the mask
    assert named.score_samples([[3, 0, 1]]) == named.score_samples([[None, 0, 1]])


@pytest.mark.trains
@pytest.mark.parametrize("form", ["count", "time"])
def test_a_training_on_gaps_of_every_kind_is_the_same(form):
    X = np.array([[0.0, 1, np.nan], [2, np.nan, 1]])
    kinds = (
        X,
        pd.DataFrame(X).to_numpy(),
        np.nan_to_num(X, nan=3).astype(np.int8),
        torch.from_numpy(X),
    )
    kinds += (torch.from_numpy(X).to(torch.bfloat16), X.astype(object), [[0, 1, None], [2, None, 1]])
    fitted = [
        MaskedDiffusion(3, 3, small(3, 3), objective=form).fit(kind, steps=2, batch_size=2).state_dict()
        for kind in kinds
    ]
    for other in fitted[1:]:
        assert all(torch.equal(other[name], value) for name, value in fitted[0].items())


def test_numbers_that_are_no_tokens():
    model = MaskedDiffusion(2049, 2, small(2049, 2))
    half = torch.tensor([[1.0, math.nan]], dtype=torch.float16)  # has no 2,049, the mask, beside 2,048
    assert model.score_samples(half) == model.score_samples([[1, None]])
    for wrong in ([[math.inf, 1]], [[1e300, 1]], np.array([[2**63 + 1, 1]], np.uint64)):
        with pytest.raises(ValueError, match="whole numbers"):
            model.score_samples(wrong)
    for wrong in ([["1", "0"]], [[b"1", 0]], np.array([["2020", "2021"]], "datetime64[Y]")):
        with pytest.raises(TypeError, match="whole numbers"):
            model.score_samples(wrong)
    with pytest.raises(ValueError, match=r"2 times from 0 to 1, got \[7."):
        MaskedDiffusion(
            2, 2, small(2, 2, time_conditioning=True), objective="time", time_conditioning=True
        ).log_probs(torch.zeros(2, 2, dtype=torch.int64), torch.tensor([7.0, 0.5]))
    with pytest.raises(
        ValueError, match="must know 4 tokens, of which the last is the mask, but was built for 3"
    ):
        MaskedDiffusion(3, 4, small(2, 4)).sample()


def test_what_training_has_seen_travels_with_the_weights():
    X = torch.tensor([[0, 1], [1, 0]])
    model = MaskedDiffusion(3, 2, small(3, 2)).fit(X, steps=1)
    with pytest.warns(UserWarning, match="1 entries of prompt were never seen"):
        model.sample(prompt=np.array([[2, 3]]))
    other = MaskedDiffusion(3, 2, small(3, 2))
    other.load_state_dict(model.state_dict())
    other.fit(torch.tensor([[2, 2]]), steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.sample(prompt=np.array([[2, 3], [0, 1]]))


def test_asking_is_done_in_evaluation_mode_and_leaves_modes_as_they_are():
    model = MaskedDiffusion([3] * 4, backbone=ResidualMLP(4, 4, width=16, depth=2, dropout=0.5))
    nn.init.normal_(model.backbone.blocks[0].fc2.weight)
    nn.init.normal_(model.backbone.head[0].weight)
    model.train()
    model.backbone.blocks[1].eval()
    x = np.full((50, 4), np.nan)
    for ask in (
        lambda: model.score_samples(np.zeros((50, 4), dtype=int)).tolist(),
        lambda: model.impute(x).tolist(),
        lambda: model.sample(50, generator=0).tolist(),
        lambda: model._score(torch.zeros(50, 4, dtype=torch.int64)),
    ):
        assert ask() == ask()
    assert model.training
    assert not model.backbone.blocks[1].training
