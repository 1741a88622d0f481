"""What must hold of marginals and conditionals of one law, and of models of none: identities, gradients, bad input."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

from lodim.discrete.marginalization_models import MarginalizationModel, fit_energy, fit_mle
from lodim.discrete.marginalization_models.model import kl_term
from lodim.discrete.marginalization_models.training import _with_epochs
from lodim.discrete.masked_diffusion import MaskedDiffusion
from lodim.discrete.masking import random_orders
from lodim.discrete.vocabulary import Columns, Vocabulary
from lodim.nets import BidirectionalTransformer, DilatedConvNet, ResidualMLP
from lodim.training import DescentRecipe


def law(sizes=(3, 2, 3), seed=0):
    joint = torch.rand(sizes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 2 + 0.02
    return joint / joint.sum()


class Marginals(nn.Module):
    """log p of every partial configuration, by sums over the joint law; with slope, wrong by so much a variable."""

    def __init__(self, joint, slope=0.0):
        super().__init__()
        self.sizes, self.mask, self.slope = joint.shape, max(joint.shape), slope
        for axis, size in enumerate(joint.shape):
            total = joint.sum(axis, keepdim=True)
            joint = torch.cat([joint, *[0 * total] * (self.mask - size), total], axis)
        self.table = joint.log()

    def forward(self, x):
        return self.table[tuple(x.T)] + self.slope * (x != self.mask).sum(1)


class Conditionals(Marginals):
    """Logits of every variable given the others that are known."""

    def forward(self, x, t=None, y=None):
        out = torch.empty(*x.shape, self.mask, dtype=torch.float64)
        for place, token in itertools.product(range(x.shape[1]), range(self.mask)):
            told = x.clone()
            told[:, place] = token
            out[:, place, token] = self.table[tuple(told.T)]
        return out


def exact(joint, slope=0.0):
    conditional = MaskedDiffusion(list(joint.shape), backbone=Conditionals(joint))
    return MarginalizationModel(conditional=conditional, marginal_net=Marginals(joint, slope), offset=0.0)


def every(sizes):
    return torch.tensor([*itertools.product(*map(range, sizes))])


def chi_square(x, joint):
    """p-value of draws against a law."""
    sizes = joint.shape
    counts = np.bincount(np.ravel_multi_index(x.T.numpy(), sizes), minlength=joint.numel())
    return stats.chisquare(counts, len(x) * joint.flatten().numpy()).pvalue


# ------------------------------------------------------------------------------------------------ one exact law


def test_marginals_and_conditionals_of_one_law_are_consistent_everywhere():
    joint = law()
    model, x = exact(joint), every(joint.shape)
    for order in itertools.permutations(range(3)):
        for d in (1, 2, 3):
            assert model.consistency(x, torch.tensor(order), d).max() < 1e-12
    assert float(model.loss(x)) < 1e-12  # the begin term included
    report = model.consistency_report(x)
    assert report.error.max() < 1e-6
    assert abs(report.nothing) < 1e-6
    log_p = joint.log().flatten()
    torch.testing.assert_close(model.log_prob(x), log_p)
    torch.testing.assert_close(model.log_prob_orders(x, generator=0), log_p, check_dtype=False)


def test_log_prob_sums_out_what_is_not_observed():
    joint = law()
    model, x = exact(joint), every(joint.shape)
    for seen in itertools.product((True, False), repeat=3):
        observed = torch.tensor(seen)
        found = model.log_prob(x, observed)
        hidden = [d for d in range(3) if not seen[d]]
        sums = joint.sum(hidden, keepdim=True).expand(joint.shape) if hidden else joint
        torch.testing.assert_close(found, sums.log().flatten())
        for d in hidden:  # one variable more, summed over what it may be
            more = torch.where(observed, x, model.mask_id).repeat(joint.shape[d], 1)
            more[:, d] = torch.arange(joint.shape[d]).repeat_interleave(len(x))
            torch.testing.assert_close(
                model.log_prob(more).reshape(-1, len(x)).logsumexp(0), found, rtol=1e-9, atol=1e-9
            )


def test_a_slope_of_the_marginals_shows_as_errors_and_drift():
    joint = law()
    report = exact(joint, slope=0.1).consistency_report(every(joint.shape))
    np.testing.assert_allclose(report.error, 0.1, atol=1e-9)
    np.testing.assert_allclose(report.drift, [0.1, 0.2, 0.3], atol=1e-9)
    np.testing.assert_allclose(report.se, 0.0, atol=1e-9)
    assert report.nothing == pytest.approx(0, abs=1e-9)
    assert "0.1 nats on average" in str(report)
    assert report.plot().get_xlabel() == "observed variables"
    assert report.from_json(report.to_json()) == report


@pytest.mark.parametrize("order", [None, (2, 0, 1)])
def test_samples_in_any_order_have_the_law(order):
    joint = law()
    order = None if order is None else torch.tensor(order)
    x = exact(joint).sample(4000, order, generator=1)
    assert chi_square(x, joint) > 1e-3


@pytest.mark.parametrize("n_places", [1, 2, 7])
def test_block_gibbs_leaves_the_law(n_places):
    joint = law(seed=1)
    draws = torch.Generator().manual_seed(2)
    x = every(joint.shape)[torch.multinomial(joint.flatten(), 4000, True, generator=draws)]
    moved = exact(joint).gibbs(x, n_places, draws)
    assert chi_square(moved, joint) > 1e-3
    assert ((moved != x).sum(1) <= n_places).all()
    assert (moved != x).any()


def test_conditional_samples_keep_what_is_observed_and_have_the_rest_from_its_law():
    joint = law()
    model = exact(joint)
    x = model.sample(4000, x=[[None, 1, None]], generator=3)
    assert isinstance(x, np.ndarray)
    assert (x[:, 1] == 1).all()
    rest = joint[:, 1] / joint[:, 1].sum()
    assert chi_square(torch.from_numpy(x[:, [0, 2]]), rest) > 1e-3
    known = every(joint.shape)
    assert torch.equal(model.sample(x=known), known)
    hidden = torch.tensor([True, False, True])
    assert torch.equal(model.sample(x=known, observed=hidden)[:, hidden], known[:, hidden])


def test_the_estimate_of_the_gradient_is_that_of_the_divergence():
    """Three spins: the mean over all pairs of draws, weighted by their probability, is the exact gradient."""
    draws = torch.Generator().manual_seed(0)
    table = torch.randn(8, generator=draws, dtype=torch.float64, requires_grad=True)
    log_f = torch.randn(8, generator=draws, dtype=torch.float64)
    log_p = table.log_softmax(0)
    exactly = torch.autograd.grad((log_p.exp() * (log_p - log_f)).sum(), table)[0]
    p = log_p.detach().exp()
    mean = sum(
        p[i] * p[j] * torch.autograd.grad(kl_term(table.log_softmax(0)[[i, j]], log_f[[i, j]]), table)[0]
        for i in range(8)
        for j in range(8)
    )
    torch.testing.assert_close(mean, exactly, rtol=1e-10, atol=1e-12)


def test_at_the_target_both_energy_losses_are_at_their_end():
    joint = law((2, 2, 2))
    model, log_f = exact(joint), lambda x: joint[tuple(x.T)].log() + 1.7  # Z = e^1.7
    state = model.init_chain(16)
    loss, state, info = model.energy_loss(log_f, state)
    assert float(loss) == pytest.approx(0, abs=1e-9)  # r is the same everywhere
    assert float(info["free_energy"]) == pytest.approx(-1.7)
    with torch.no_grad():
        model.log_z.fill_(1.7)
    assert model.energy_loss(log_f, state, objective="square")[0].item() == pytest.approx(0, abs=1e-9)


# ------------------------------------------------------------------------------------------------ what people give


def test_a_row_with_gaps_may_be_written_in_every_way():
    model = MarginalizationModel(3, 4, random_state=0)
    with torch.no_grad():
        model.marginal_net.out.weight.normal_(generator=torch.Generator().manual_seed(0))
    rows = [[0, None, 2, None], [1, 1, None, None]]
    expected = model.log_prob(rows)
    assert isinstance(expected, np.ndarray)
    numbers = np.array(rows, dtype=float)
    seen = ~np.isnan(numbers)
    whole = np.where(seen, numbers, 0).astype(int)
    for again in (
        numbers,
        np.where(seen, whole, 3),
        pd.DataFrame(numbers),
        [[0, math.nan, 2, 3], [1, 1, 3, None]],
    ):
        np.testing.assert_array_equal(model.log_prob(again), expected)
    np.testing.assert_array_equal(model.log_prob(whole, seen), expected)
    found = model.log_prob(torch.from_numpy(numbers))
    assert isinstance(found, torch.Tensor)
    np.testing.assert_array_equal(found.numpy(), expected)
    laws = model.log_conditional(rows)
    assert laws.shape == (2, 4, 3)
    assert laws[0, 2].tolist() == [-math.inf, -math.inf, 0]
    np.testing.assert_allclose(np.exp(laws).sum(-1), 1, rtol=1e-6)


def test_a_frame_with_missing_cells_is_asked_and_completed():
    frame = pd.DataFrame({"smokes": ["no", "yes", None, "no"], "sleep": ["bad", "good", "fair", None]})
    frame.index = ["a", "b", "c", "d"]
    model = MarginalizationModel(Columns.of(frame), random_state=0)
    np.testing.assert_allclose(  # untrained: uniform over what was seen
        model.log_prob(frame), -np.log([6, 6, 3, 2]), rtol=1e-6
    )
    full = model.sample(x=frame, generator=0)
    assert list(full.columns) == ["smokes", "sleep"]
    assert list(full.index) == ["a", "b", "c", "d"]
    assert full.notna().all(None)
    assert ((full == frame) | frame.isna()).all(None)


@pytest.mark.parametrize("kind", [ResidualMLP, DilatedConvNet, BidirectionalTransformer])
def test_every_backbone_may_be_tower_or_trunk(kind):
    net = kind(3, 6, width=16)
    model = MarginalizationModel(2, 6, net, random_state=0)
    assert any(p is q for p in net.parameters() for q in model.marginal_net.parameters())
    tied = MarginalizationModel(conditional=MaskedDiffusion(2, 6, kind(3, 6, width=16)), tie=True)
    for each in (model, tied):
        np.testing.assert_allclose(each.log_prob([[1, 0] + [None] * 4]), -2 * math.log(2), rtol=1e-5)
    loss, _, _ = tied.energy_loss(lambda x: x.sum(1).float(), tied.init_chain(4))
    loss.backward()
    assert all(p.grad is not None for p in tied.conditional.backbone.parameters())
    assert not list(set(tied.marginal_net.parameters()) & set(tied.conditional.parameters()))


def test_frozen_conditionals_get_no_gradient():
    model = MarginalizationModel(2, 4, random_state=0)
    model.loss(every((2, 2, 2, 2))).backward()
    assert all(p.grad is None for p in model.conditional.parameters())
    assert any(p.grad is not None for p in model.marginal_net.parameters())


def test_bad_input_is_named():
    model = MarginalizationModel(2, 3, random_state=0)
    x = every((2, 2, 2))
    for wrong, said in (
        ([[0, 1]], r"shape \(n, 3\)"), ([0, 1, 0], r"one row is \[\[...\]\]"), ([[0, 1, 5]], "0 to 1.*got 5 in row 0"),
        ([[0, -1, 0]], "got -1"), ([[0, 0.5, 0]], "whole numbers"), (np.zeros((0, 3), int), "one row at least"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            model.log_prob(wrong)
    with pytest.raises(TypeError, match="must hold whole numbers, with None, NaN or 2"):
        model.log_prob([["a", "b", "c"]])
    with pytest.raises(ValueError, match="observed must be true or false"):
        model.log_prob(x, observed=torch.ones(8, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="must be complete"):
        model.loss(torch.tensor([[0, 1, 2]]))
    with pytest.raises(ValueError, match="d must be steps from 1 to 3"):
        model.consistency(x, d=4)
    with pytest.raises(ValueError, match="order must name each"):
        model.consistency(x, torch.tensor([0, 0, 1]))
    with pytest.raises(ValueError, match="vocabulary"):
        MarginalizationModel()
    with pytest.raises(ValueError, match="leave yours out"):
        MarginalizationModel(2, 3, conditional=MaskedDiffusion(2, 3))
    with pytest.raises(ValueError, match="fit it first"):
        MarginalizationModel(conditional=MaskedDiffusion())
    with pytest.raises(ValueError, match="neither time"):
        MarginalizationModel(conditional=MaskedDiffusion(2, 3, time_conditioning=True, objective="time"))
    with pytest.raises(ValueError, match="leave marginal_net out"):
        MarginalizationModel(2, 3, ResidualMLP(3, 3), tie=True)
    with pytest.raises(ValueError, match="features and width"):
        MarginalizationModel(
            conditional=MaskedDiffusion([2, 2], backbone=Conditionals(law((2, 2)))), tie=True
        )


def test_energies_that_are_no_numbers_are_refused_and_impossible_states_have_a_floor():
    model = MarginalizationModel(2, 3, random_state=0)
    state = torch.tensor([[0, 0, 0]] * 6 + [[1, 1, 1]] * 2)
    never = model.energy_loss
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="NaN or \\+inf for 8 of 8 states"):
            never(lambda x, value=value: torch.full((len(x),), value), state)
    with pytest.raises(ValueError, match="-inf for all 8"):
        never(lambda x: torch.full((len(x),), -torch.inf), state)
    with pytest.raises(ValueError, match=r"shape \(8,\), got \(8, 3\)"):
        never(lambda x: x.float(), state)

    def log_f(x):
        return np.where(x[:, 0] == 1, -np.inf, 2.0)

    loss, state, info = never(log_f, state, generator=torch.Generator().manual_seed(0))
    impossible = float((state[:, 0] == 1).double().mean())
    assert 0 < impossible < 1
    expected = -3 * math.log(2) - 2 + 50 * impossible
    assert float(info["free_energy"]) == pytest.approx(expected, rel=1e-5)
    assert bool(loss.isfinite())


# ------------------------------------------------------------------------------------------------ training


def small(seed=0):
    return MarginalizationModel(
        marginal_net=ResidualMLP(3, 3, 1, 32, 1), random_state=seed,
        conditional=MaskedDiffusion(2, 3, ResidualMLP(3, 3, 2, 32, 1), random_state=0),
    )  # fmt: skip


def log_f_of_three(x):
    s = 2.0 * x - 1
    return 0.8 * s[:, 0] * s[:, 1] - 0.5 * s[:, 1] * s[:, 2] + 0.3 * s[:, 2]


def errors(model, joint):
    """Mean error over all marginals, and of nothing."""
    x, truth = every(joint.shape), Marginals(joint)
    partial = torch.cat(
        [torch.where(torch.tensor(seen), x, 2) for seen in itertools.product((True, False), repeat=3)]
    )
    return (model.log_prob(partial) - truth(partial)).abs().mean(), model.log_prob([[None] * 3])[0]


@pytest.mark.trains
@pytest.mark.parametrize("objective", ["kl", "square"])
def test_an_energy_is_learnt(objective):
    torch.manual_seed(0)
    table = log_f_of_three(every((2, 2, 2)))
    joint = table.double().softmax(0).reshape(2, 2, 2)
    model = small()
    result = fit_energy(model, log_f_of_three, steps=250, batch_size=64, lr=5e-3, objective=objective)
    mean, nothing = errors(model, joint)
    assert mean < 0.1
    assert abs(nothing) < 0.05
    log_z = float(table.logsumexp(0))
    assert result.losses[-50:].mean() == pytest.approx(-log_z, abs=0.05)
    if objective == "square":
        assert model.log_z.item() == pytest.approx(log_z, abs=0.1)


def counted(target):
    """Rows as frequent as a law says."""
    return every(target.shape).repeat_interleave((target.flatten() * 2000).round().long(), 0)


@pytest.mark.trains
def test_data_are_learnt():
    torch.manual_seed(0)
    target, model = law((2, 2, 2), seed=4), small()
    fit_mle(model, counted(target).numpy(), steps=250, batch_size=64, lr=5e-3)
    log_q = model.log_prob(every((2, 2, 2))).double()
    assert abs(model.log_prob([[None] * 3])[0]) < 0.05
    assert log_q.exp().sum() == pytest.approx(1, abs=0.05)
    assert (target.flatten() * (target.flatten().log() - log_q)).sum().abs() < 0.02  # the divergence


@pytest.mark.trains
@pytest.mark.parametrize("what", ["energy", "data"])
def test_an_interrupted_run_ends_with_the_same_bits(what, tmp_path):
    x = every((2, 2, 2)).repeat(8, 1)

    def run(path=None, stop=None):
        torch.manual_seed(0)
        model = small()
        options = {"steps": 40, "batch_size": 8, "checkpoint": path}
        options["on_step"] = None if stop is None else lambda run: run.stop() if run.step == stop else None
        if what == "energy":
            fit_energy(model, log_f_of_three, **options)
        else:
            fit_mle(model, x, **options)
        return model.state_dict()

    whole = run()
    run(tmp_path / "a", stop=17)
    again = run(tmp_path / "a")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_checkpoint_of_another_energy_is_refused(tmp_path):
    torch.manual_seed(0)
    fit_energy(small(), log_f_of_three, steps=2, batch_size=8, checkpoint=tmp_path / "a")
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="log_f"):
        fit_energy(small(), lambda x: x.sum(1).float(), steps=2, batch_size=8, checkpoint=tmp_path / "a")


@pytest.mark.trains
def test_a_training_that_was_cut_short_goes_on_where_it_was(tmp_path):
    x = every((2, 2, 2)).repeat(8, 1)

    def run(path=None, **more):
        torch.manual_seed(0)
        model = small()
        return fit_mle(model, x, steps=6, batch_size=8, checkpoint=path, **more), model

    cut, model = run(tmp_path / "a", deadline=0.0)  # which ends the conditionals already
    assert cut is model.conditional.training_
    assert cut.stopped == "deadline"
    assert not model.marginal_net.out.weight.any()
    result, whole = run()
    again = run(tmp_path / "a")[1]
    same = fit_mle(model, x, steps=6, batch_size=8)
    assert result.stopped == same.stopped == "budget"
    assert model.conditional.training_.steps == 6
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_marginals_of_other_conditionals_do_not_go_on(tmp_path):
    x = every((2, 2, 2)).repeat(8, 1)
    for seed in (0, 1):
        model = small()
        model.conditional.fit(x, steps=3, random_state=seed)
        if not seed:
            fit_mle(
                model, x, steps=4, batch_size=8, checkpoint=tmp_path / "a", on_step=lambda run: run.stop()
            )
    with pytest.raises(ValueError, match="conditional"):
        fit_mle(model, x, steps=4, batch_size=8, checkpoint=tmp_path / "a")


def test_what_was_learnt_is_kept_by_another_fit():
    x = counted(law((2, 2, 2), seed=4))
    model, other = small(), small(1)
    fit_mle(model, x, steps=2)
    before = model.log_prob(x[:1]).item()
    conditionals = [p.clone() for p in model.conditional.parameters()]
    other.load_state_dict(model.state_dict())
    for each in (model, other):  # fitted here, or loaded
        fit_mle(each, torch.ones_like(x), steps=1, lr=1e-9, on_policy=False)
        assert each.log_prob(x[:1]).item() == pytest.approx(before, abs=1e-5)
        pairs = zip(conditionals, each.conditional.parameters(), strict=True)
        assert all(torch.equal(p, q) for p, q in pairs)


def test_log_p_begins_at_independent_variables_and_gaps_are_drawn():
    x = np.array([[0, 1, 1]] * 6 + [[0, 0, 1]] * 3 + [[0, None, 1]] * 90, dtype=float)
    net = nn.Identity()  # of which every variable is 1 for certain
    net.forward = lambda x, t=None, y=None: torch.tensor([-50.0, 0.0]).expand(*x.shape, 2)
    model = MarginalizationModel(conditional=MaskedDiffusion(2, 3, net), random_state=0)
    fit_mle(model, x, steps=1, conditional_steps=0, lr=1e-12, on_policy=False)
    shares = [(100, 1), (4, 97), (1, 100)]  # of 99 rows, each token counted once more
    for place, counts in enumerate(shares):
        for token in (0, 1):
            row = [None] * 3
            row[place] = token
            assert model.log_prob([row])[0] == pytest.approx(math.log(counts[token] / 101), abs=1e-5)
    assert model.log_prob([[None] * 3])[0] == pytest.approx(0, abs=1e-9)
    fixed = MarginalizationModel(2, 3, offset=2.5)
    assert fixed.log_prob([[None] * 3, [0, 1, None]]).tolist() == [-2.5, -2.5]


# ------------------------------------------------------------------------------------------------ every option counts


def test_draws_are_of_the_law_that_was_asked_for():
    one = exact(torch.tensor([0.5, 0.25, 0.15, 0.1], dtype=torch.float64))
    for options, expected in (
        ({"top_p": 0.7}, [2 / 3, 1 / 3, 0, 0]),
        ({"temperature": 0.5}, np.array([0.25, 0.0625, 0.0225, 0.01]) / 0.345),
    ):
        found = np.bincount(one.sample(8000, generator=0, **options)[:, 0], minlength=4) / 8000
        assert (
            np.abs(found - expected) <= 4 * np.sqrt(np.multiply(expected, 1 - np.array(expected)) / 8000)
        ).all()
    equal = exact(torch.eye(2, dtype=torch.float64) / 2 + 1e-9)
    together = equal.sample(4000, block_size=2, generator=0)  # as if they knew nothing of each other
    assert (together[:, 0] == together[:, 1]).double().mean() == pytest.approx(0.5, abs=0.04)
    assert (equal.sample(200, generator=0).diff() == 0).all()


def test_the_consistency_term_weighs_a_step_by_their_number():
    joint = law()
    model = exact(joint, slope=0.1)
    assert float(model.loss(every(joint.shape))) == pytest.approx(3 * 0.01)
    state = model.init_chain(40)
    losses = [
        model.energy_loss(lambda x: 0.0 * x[:, 0], state, lam=lam, generator=torch.Generator().manual_seed(0))
        for lam in (0.0, 1.0, 7.0)
    ]
    for (loss, *_), lam in zip(losses, (0, 1, 7), strict=True):
        assert float(loss - losses[0][0]) == pytest.approx(lam * 0.03)


def test_consistency_towards_an_energy_is_asked_where_the_chain_never_is():
    """States of the chain are all 0; only where a 1 is observed are the marginals wrong, by a nat each."""
    net = nn.Identity()
    net.forward = lambda x, t=None, y=None: torch.tensor([0.0, -20.0]).log_softmax(-1).expand(*x.shape, 2)
    theta = nn.Identity()
    theta.forward = lambda x: -19.0 * (x == 1).sum(1).float()
    model = MarginalizationModel(conditional=MaskedDiffusion(2, 5, net), marginal_net=theta, offset=0.0)
    _, state, info = model.energy_loss(lambda x: 0.0 * x[:, 0], torch.zeros(400, 5, dtype=torch.int64))
    assert not state.any()
    assert float(info["consistency"]) == pytest.approx(
        5 * 0.25, rel=0.2
    )  # half of the states, half of their steps


@pytest.mark.trains
def test_the_chain_moves_and_begins_anew_a_score_of_times(monkeypatch):
    model, begun, moved = small(), [], []
    init, gibbs = model.init_chain, model.gibbs
    monkeypatch.setattr(model, "init_chain", lambda *a: begun.append(1) or init(*a))
    monkeypatch.setattr(model, "gibbs", lambda *a: moved.append(1) or gibbs(*a))
    fit_energy(model, log_f_of_three, steps=9, batch_size=8)
    assert (len(begun), len(moved)) == (9, 9)
    fit_energy(model, log_f_of_three, recipe=DescentRecipe(steps=9, batch_size=8, epoch_steps=3))
    assert (len(begun), len(moved)) == (12, 18)
    x = every((2, 2, 2)).repeat(5, 1)
    for on_policy, expected in ((True, 9), (False, 0)):
        begun.clear()
        moved.clear()
        fit_mle(
            model, x, recipe=DescentRecipe(steps=9, batch_size=8), conditional_steps=0, on_policy=on_policy
        )
        assert len(moved) == expected
        assert len(begun) == expected
    state = torch.zeros(50, 3, dtype=torch.int64)
    assert (model.energy_loss(log_f_of_three, state, n_gibbs=3)[1] != state).any()
    assert _with_epochs(DescentRecipe(steps=399)).epoch_steps == 20


def test_log_z_moves_at_a_rate_of_its_own():
    model = small()
    before = model.log_z.item()
    fit_energy(model, lambda x: log_f_of_three(x) + 30, steps=1, batch_size=8, objective="square")
    assert abs(model.log_z.item() - before) == pytest.approx(0.05, rel=1e-3)  # Adam's first step is its rate


def test_chains_along_orders_are_averaged_as_probabilities():
    torch.manual_seed(0)
    net = ResidualMLP(3, 3, width=16)
    nn.init.normal_(net.head[0].weight)
    model, x = MarginalizationModel(conditional=MaskedDiffusion(2, 3, net)), every((2, 2, 2))
    draws = torch.Generator().manual_seed(0)
    orders = [random_orders(torch.ones_like(x, dtype=torch.bool), draws) for _ in range(3)]
    chains = torch.stack([model.conditional.log_prob(x, order) for order in orders])
    found = model.log_prob_orders(x, n_orders=3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, chains.exp().mean(0).log())
    assert (found - chains.mean(0)).max() > 0.01


# ------------------------------------------------------------------------------------------------ and what is refused


def test_frames_are_asked_by_name_and_numbers_are_no_levels():
    frame = pd.DataFrame({"a": [1, 2, 3, 3], "b": [1, 3, 2, 1]})
    model = MarginalizationModel(Columns.of(frame), random_state=0)
    model.base[:, :-1] = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    turned, known = frame[["b", "a"]], pd.DataFrame({"b": [True] * 4, "a": [False] * 4})
    gaps = model.log_prob(frame.assign(a=None))
    np.testing.assert_array_equal(model.log_prob(turned, observed=known), gaps)
    np.testing.assert_array_equal(model.log_prob(frame, observed=known), gaps)
    with pytest.raises(ValueError, match="observed must have the columns 'a', 'b'"):
        model.log_prob(frame, observed=known.rename(columns={"a": "c"}))
    for numbers in (frame.to_numpy(), frame.to_numpy(float)):
        with pytest.raises(TypeError, match="must be a data frame"):
            model.log_prob(numbers)
    codes = model.vocabulary.encode(frame)
    torch.testing.assert_close(model.log_prob(codes).numpy(), model.log_prob(frame))
    fit_mle(model, codes, steps=1, conditional_steps=1)
    assert isinstance(model.sample(3, generator=0), pd.DataFrame)


def test_gaps_of_pandas_are_gaps():
    model = MarginalizationModel(3, 2, random_state=0)
    frame = pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": [0, 2]})
    np.testing.assert_array_equal(model.log_prob(frame), model.log_prob([[1, 0], [None, 2]]))
    np.testing.assert_array_equal(model.log_prob([[pd.NA, 2]]), model.log_prob([[None, 2]]))


def test_whole_texts_are_reported_on_and_beginnings_asked():
    vocabulary = Vocabulary.of(["ab", "b", "aba"])
    model = MarginalizationModel(vocabulary, random_state=0)
    assert len(model.consistency_report(["ab", "b", "aba"]).error) == 3
    whole = model.log_prob(vocabulary.encode(["ab"]))
    np.testing.assert_array_equal(model.log_prob([["ab", ""]]), whole.numpy())
    assert model.log_prob(["ab"])[0] > whole[0]


def test_frozen_conditionals_are_as_they_will_be_asked():
    net = ResidualMLP(3, 4, width=16, dropout=0.5)
    nn.init.normal_(net.blocks[0].fc2.weight)
    nn.init.normal_(net.head[0].weight)
    model = MarginalizationModel(conditional=MaskedDiffusion(2, 4, net), random_state=0).train()
    x = every((2, 2, 2, 2))
    losses = {float(model.loss(x, generator=torch.Generator().manual_seed(0)).detach()) for _ in range(3)}
    assert len(losses) == 1
    assert net.training
    tied = MarginalizationModel(conditional=MaskedDiffusion(2, 4, ResidualMLP(3, 4, width=16)), tie=True)
    tied.loss(x).backward()
    assert all(p.grad is None for p in tied.conditional.parameters())
    assert any(p.grad is not None for p in tied.marginal_net.parameters())


def test_what_would_be_ignored_is_refused():
    model, x = MarginalizationModel(2, 3, random_state=0), every((2, 2, 2))
    with pytest.raises(ValueError, match="give x too"):
        model.sample(2, observed=[True, True, False])
    with pytest.raises(TypeError, match="d must be"):
        model.consistency(x, d=torch.tensor(1.5))
    with pytest.raises(TypeError, match="order"):
        model.consistency(x, torch.tensor([0.0, 1.5, 2.0]))
    with pytest.raises(ValueError, match="two states or more"):
        model.energy_loss(log_f_of_three, x[:1])
    with pytest.raises(ValueError, match="lam"):
        model.energy_loss(log_f_of_three, x, lam=-1.0)
    for wrong in (2.5, "3", -1):
        with pytest.raises((TypeError, ValueError), match="n "):
            model.sample(wrong)
    assert model.gibbs(x.to(torch.int32)).dtype == torch.int64


def test_an_energy_may_answer_as_pandas_does_and_write_into_what_it_gets():
    model, x = MarginalizationModel(2, 3, random_state=0), every((2, 2, 2))

    def log_f(rows):
        rows.mul_(2).sub_(1)
        return pd.Series(rows.sum(1).numpy())

    _, state, _ = model.energy_loss(log_f, x)
    assert state.min() >= 0
    with pytest.raises((TypeError, ValueError), match="what log_f returns"):
        model.energy_loss(lambda rows: None, x)
