"""The one descent: any loss, one player or several, and the same bits whatever interrupts it."""

import copy
import itertools
import math
import os
import signal
import threading
import time
from collections import UserDict, namedtuple
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lodim.nets import mlp
from lodim.randomness import build_seeded, torch_generator
from lodim.training import (
    DescentRecipe,
    DescentResult,
    ExponentialMovingAverage,
    Plateau,
    Player,
    descend,
)
from lodim.training.recipe import check_optimizer
from lodim.validation import ConvergenceWarning

pytestmark = pytest.mark.trains

X = torch.randn(60, 5, generator=torch_generator(0))
Y = (X[:, :1] * X[:, 1:2]).detach()
momentum = partial(torch.optim.SGD, momentum=0.9)


def net(seed=0, dropout=0.0):
    return build_seeded(lambda: nn.Sequential(nn.BatchNorm1d(5), nn.Dropout(dropout), mlp([5, 8, 1])), seed)


def loss_of(model):
    return lambda x, y: (model(x) - y).square().mean()


def vector(*modules):
    return torch.cat([t.double().reshape(-1) for m in modules for t in m.state_dict().values()])


def bowl(start=(3.0, -2.0)):
    p = torch.tensor(start, requires_grad=True)
    return p, lambda: p.square().sum()


@pytest.mark.parametrize("make", [torch.optim.AdamW, momentum, "adam"])
def test_one_player_without_data_is_the_textbook_loop(make):
    p, loss = bowl()
    q, oracle = bowl()
    result = descend(
        loss, [p], DescentRecipe(steps=12, lr=0.1, optimizer=make, schedule="cosine", grad_clip=1.0)
    )
    stepper = (torch.optim.Adam if make == "adam" else make)([q], lr=0.1)
    for step in range(12):
        stepper.param_groups[0]["lr"] = 0.1 * (1 + math.cos(math.pi * step / 12)) / 2
        stepper.zero_grad()
        value = oracle()
        assert result.losses[step, 0] == pytest.approx(value.item(), rel=1e-6)
        value.backward()
        nn.utils.clip_grad_norm_([q], 1.0)
        stepper.step()
    torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)
    assert (result.steps, result.skipped, result.stopped) == (12, 0, "budget")


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, i):
        return X[i], Y[i]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y, strict=True))


def test_all_kinds_of_data_are_taken():
    lists = [(X[:30], Y[:30]), (X[30:], Y[30:])]
    seen = {}
    kinds = {
        "tensors": (X, Y),
        "arrays": (X.numpy(), Y.numpy()),
        "dataset": Rows(),
        "tensor dataset": TensorDataset(X, Y),
        "stream": Stream(),
        "loader": DataLoader(TensorDataset(X, Y), 30, shuffle=True),
        "list": lists,
        "endless": itertools.cycle(lists),
        "dict": {"x": X, "y": Y},
        "dicts": [{"x": x, "y": y} for x, y in lists],
        "single": torch.arange(60),
    }
    for name, data in kinds.items():
        model, sizes = net(), []

        def loss(*batch, name=name, model=model, sizes=sizes):
            if name == "single":
                batch = X[batch[0]], Y[batch[0]]
            x, y = batch[0].values() if "dict" in name else batch
            sizes.append(len(x))
            return (model(x) - y).square().mean()

        result = descend(loss, model, DescentRecipe(steps=4, batch_size=30), data)
        assert sizes == [30] * 4, name
        assert result.losses.shape == (4, 1)
        seen[name] = vector(model)
    for same in ("arrays", "dataset", "tensor dataset", "dict", "single"):
        assert torch.equal(seen[same], seen["tensors"]), same
    for same in ("endless", "dicts", "stream"):
        assert torch.equal(seen[same], seen["list"]), same


@pytest.mark.filterwarnings("error:The given NumPy array is not writable")
@pytest.mark.parametrize(
    "form", [lambda a: a, lambda a: (a,), lambda a: {"x": a}], ids=["one", "tuple", "dict"]
)
def test_a_memory_map_is_copied_before_torch_may_write_to_it(form, tmp_path):
    np.save(tmp_path / "x.npy", X.numpy())
    rows = np.load(tmp_path / "x.npy", mmap_mode="r")
    model = net()

    def loss(*batch, **named):
        (x,) = batch or named.values()
        return model((x["x"] if isinstance(x, dict) else x).mul_(2)).square().mean()

    always, _ = torch.is_warn_always_enabled(), torch.set_warn_always(True)
    try:
        descend(loss, model, DescentRecipe(steps=2), form(rows))
    finally:
        torch.set_warn_always(always)
    np.testing.assert_array_equal(rows, X.numpy())


class Shifted(TensorDataset):
    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return x + 100, y


Pair = namedtuple("Pair", "x y")


@pytest.mark.parametrize(
    ("batch", "rows"),
    [
        ({"name": ["a", "b", "c"], "x": X}, 60),
        ((["a", "b"], torch.tensor(1.0), X), 60),
        ((Pair(X, Y), 1), 60),
        (UserDict(x=X), 60),
        (nn.utils.rnn.pack_sequence([X[:3], X[:2]]), 5),
        ({"name": "a"}, 1),
    ],
)
def test_batches_keep_their_form_and_count_their_rows(batch, rows):
    p, loss = bowl()
    seen, counted = [], []
    take = lambda *parts: (seen.append(parts), loss())[1]  # noqa: E731
    descend(take, [p], DescentRecipe(steps=1), [batch], on_step=lambda run: counted.append(run.samples))
    assert counted == [rows]
    if type(batch) is tuple:
        assert [type(part) for part in seen[0]] == [type(part) for part in batch]
    else:
        assert isinstance(seen[0][0], dict if isinstance(batch, UserDict) else type(batch))


def test_rows_of_a_data_set_are_what_it_says():
    p, loss = bowl()
    take = lambda x, y: loss() + 0 * x.sum() if x.min() > 50 else 1 / 0  # noqa: E731
    assert descend(take, [p], DescentRecipe(epochs=1), Shifted(X, Y)).steps == 1


def test_data_that_end_or_never_begin():
    with pytest.raises(ValueError, match="no batch"):
        descend(lambda x: x.sum(), net(), DescentRecipe(steps=4), [])
    with pytest.raises(ValueError, match="no rows"):
        descend(lambda x: x.sum(), net(), DescentRecipe(epochs=4), X[:0])
    with pytest.raises(ValueError, match="different numbers of rows"):
        descend(lambda x: x.sum(), net(), DescentRecipe(epochs=4), (X, Y[:3]))
    with pytest.raises(TypeError, match="a Dataset, a DataLoader"):
        descend(lambda x: x.sum(), net(), DescentRecipe(epochs=4), 7)
    model = net()
    with pytest.warns(UserWarning, match="ended for good after 3 steps"):
        result = descend(loss_of(model), model, DescentRecipe(steps=9), iter([(X, Y)] * 3))
    assert (result.steps, result.stopped, len(result.history)) == (3, "exhausted", 3)


def test_groups_modules_and_frozen_parameters():
    a, b, frozen = (torch.ones(1, requires_grad=True) for _ in range(3))
    frozen.requires_grad_(False)
    sgd = DescentRecipe(steps=1, lr=0.1, optimizer="sgd")
    descend(lambda: a.sum() + b.sum() + frozen.sum(), [{"params": [a], "lr": 0.2}, b, frozen], sgd)
    assert (float(a.detach()), float(b.detach()), float(frozen)) == pytest.approx((0.8, 0.9, 1.0))
    left = nn.Linear(2, 2)
    right = nn.Linear(2, 2)
    right.weight = left.weight  # moves once
    start = left.weight.detach().clone()
    descend(lambda: left.weight.sum() + right.bias.sum(), [left, right], sgd)
    torch.testing.assert_close(left.weight, start - 0.1)
    with pytest.raises(ValueError, match="more than one parameter group"):
        descend(lambda: a.sum(), [{"params": [a]}, a], sgd)
    with pytest.raises(ValueError, match="nothing to train"):
        descend(lambda: a.sum(), [frozen], sgd)
    with pytest.raises(TypeError, match="got str"):
        descend(lambda: left.weight.sum(), left.named_parameters(), sgd)


def test_players_touch_their_own_parameters_only():
    p, _ = bowl((1.0,))
    q, _ = bowl((2.0,))
    minmax = [
        Player(lambda: p.sum() * q.sum(), [p]),
        Player(lambda: -p.sum() * q.sum(), [q], lr=0.2, every=2),
    ]
    result = descend(minmax, None, DescentRecipe(steps=2, lr=0.1, optimizer=torch.optim.SGD))
    # p moves by -0.1 q twice, then q by +0.2 p
    assert float(p.detach()) == pytest.approx(0.6)
    assert float(q.detach()) == pytest.approx(2 + 0.2 * 0.6)
    np.testing.assert_allclose(result.losses, [[2.0, np.nan], [1.6, -1.2]], rtol=1e-6)
    assert list(result.to_frame().columns) == ["step", "loss 0", "loss 1"]
    with pytest.raises(ValueError, match="sequence of Player"):
        descend(minmax, [p], DescentRecipe(steps=1))


def test_arguments_that_could_do_nothing_are_refused():
    p, loss = bowl()
    with pytest.raises(TypeError, match=r"keep\['a'\] must have state_dict"):
        descend(loss, [p], DescentRecipe(steps=1), keep={"a": 3})
    with pytest.raises(ValueError, match="early_stop_score"):
        descend(loss, [p], DescentRecipe(steps=1), score=lambda: 1.0, early_stop_score=math.nan)


def test_a_checkpointed_forward_is_trained():
    model, recipe = nn.Linear(5, 1), DescentRecipe(steps=1, lr=0.1, optimizer="sgd")
    start = model.bias.detach().clone()
    again = partial(torch.utils.checkpoint.checkpoint, model, use_reentrant=True)
    descend(lambda x, y: again(x.clone().requires_grad_()).mean(), model, recipe, (X, Y))
    torch.testing.assert_close(model.bias.detach(), start - 0.1)


def test_gradients_of_others_are_left_alone():
    inner, outer = nn.Linear(5, 1), nn.Linear(5, 1)
    start = outer.weight.detach().clone()

    def nested(x, y):
        descend(lambda: (inner(x) - outer(x)).square().mean(), inner, DescentRecipe(steps=1))
        return outer.weight.sum()

    descend(nested, outer, DescentRecipe(steps=1, lr=0.1, optimizer="sgd"), (X, Y))
    torch.testing.assert_close(outer.weight.detach(), start - 0.1)
    fixed = nn.Linear(5, 5)
    descend(lambda x, y: inner(fixed(x)).sum(), inner, DescentRecipe(steps=1), (X, Y))
    assert fixed.weight.grad is None


def test_it_descends_where_gradients_are_off():
    p, loss = bowl()
    with torch.no_grad():
        assert descend(loss, [p], DescentRecipe(steps=2)).losses[1, 0] < 13
        assert not torch.is_grad_enabled()


def test_a_pair_descends_on_the_first_and_notes_the_second():
    p, loss = bowl()
    result = descend(lambda: (loss(), p.sum()), [p], DescentRecipe(steps=3, epoch_steps=3))
    assert result.losses[0, 0] == 1.0
    assert descend(lambda: (loss(), 7), [p], DescentRecipe(steps=1)).losses.tolist() == [[7.0]]
    assert result.loss == result.history[0].loss == pytest.approx(result.losses.mean())


@pytest.fixture
def default_interrupts():
    """Ctrl-C as Python has it, however the tests are run."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def ctrl_c(run):
    os.kill(os.getpid(), signal.SIGINT)


def pieces():
    """Everything that has a state: two players, dropout, momentum, running statistics, averages, a kept counter."""
    a, b = net(0, 0.3), net(1, 0.3)
    player = Player(loss_of(b), [b[2], b[0]], partial(torch.optim.Adam, betas=(0.5, 0.9)), every=2)
    averages = [ExponentialMovingAverage(a, 100), ExponentialMovingAverage(b.parameters(), 1000)]
    return SimpleNamespace(
        a=a, b=b, players=[Player(loss_of(a), a), player], averages=averages, kept=nn.BatchNorm1d(5)
    )


def resumable(which):
    if which == "rows":
        return (X, Y)
    if which == "dataset":
        return Rows()
    if which == "endless":
        return itertools.cycle([(X, Y), (X[:30], Y[:30]), (X[30:], Y[30:])])
    own = torch_generator(5) if which == "own generator" else None
    loader = DataLoader(TensorDataset(X, Y), 20, shuffle=True, generator=own)
    return None if which == "nothing" else loader


@pytest.mark.parametrize("data", ["rows", "dataset", "endless", "loader", "own generator"])
def test_seven_steps_and_seven_more_are_fourteen(data, tmp_path, default_interrupts):
    recipe = DescentRecipe(
        steps=14, batch_size=16, optimizer=momentum, schedule="onecycle", lr=0.02, epoch_steps=5, patience=9
    )

    def go(path=None, until=None):
        it = pieces()

        def on_step(run):
            it.kept(X)
            if run.step == until:
                ctrl_c(run)

        options = {"ema": it.averages, "keep": {"kept": it.kept}, "random_state": 3, "on_step": on_step}
        result = descend(it.players, None, recipe, resumable(data), checkpoint=path, **options)
        averages = torch.cat([t.reshape(-1) for e in it.averages for t in e.averages])
        return result, torch.cat([vector(it.a, it.b, it.kept), averages])

    whole, expected = go()
    half, _ = go(tmp_path / "run.pt", until=7)
    assert (half.steps, half.stopped) == (7, "interrupted")
    torch.rand(3)  # what else is drawn must not matter
    rest, found = go(tmp_path / "run.pt")
    assert torch.equal(found, expected)
    assert rest.losses.tobytes() == whole.losses.tobytes()
    assert rest.history == whole.history
    assert (rest.steps, rest.stopped) == (14, "budget")
    again, found = go(tmp_path / "run.pt")  # a finished run is only read
    assert torch.equal(found, expected)
    assert again.losses.tobytes() == whole.losses.tobytes()
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


@pytest.mark.parametrize(
    ("options", "until"),  # a whole pass is three batches
    [({}, 3), ({}, 5), *(({"num_workers": 1, "persistent_workers": True}, until) for until in (5, 6))],
)
def test_a_loader_goes_on_with_the_order_that_it_would_have_had(options, until, tmp_path):
    def go(path=None, until=None):
        p, seen = torch.ones(1, requires_grad=True), []
        loader = DataLoader(torch.arange(9.0), 3, shuffle=True, generator=torch_generator(5), **options)
        take = lambda x: (seen.append(x.tolist()), p.sum())[1]  # noqa: E731
        stop = lambda run: run.stop() if run.step == until else None  # noqa: E731
        descend(take, [p], DescentRecipe(steps=9, epoch_steps=9), loader, checkpoint=path, on_step=stop)
        return seen

    assert go(tmp_path / "run.pt", until) + go(tmp_path / "run.pt") == go()


@pytest.mark.parametrize("level", [1.0, -1.0])
def test_a_plateau_is_resumed_and_lowers_the_rate(level, tmp_path):
    recipe = DescentRecipe(
        steps=12, optimizer="sgd", lr=0.5, schedule=Plateau(0.5, patience=1, floor=0.1), epoch_steps=1
    )

    def go(path=None, until=None):
        p, rates = torch.zeros(1, requires_grad=True), []

        def on_step(run):
            rates.append(run.players[0].optimizer.param_groups[0]["lr"])
            if run.step == until:
                run.stop()

        descend(lambda: (p * 0).sum() + level, [p], recipe, on_step=on_step, checkpoint=path)
        return rates

    assert go() == [0.5] * 3 + [0.25] * 2 + [0.125] * 2 + [0.0625] * 2 + [0.05] * 3
    assert go(tmp_path / "run.pt", 5) + go(tmp_path / "run.pt") == go()


def test_checkpoints_of_other_runs_and_unwritable_places_are_refused(tmp_path):
    path = tmp_path / "run.pt"
    model = net()
    recipe = DescentRecipe(steps=2, optimizer=momentum)
    descend(loss_of(model), model, recipe, (X, Y), checkpoint=path)
    for other in (
        {"recipe": DescentRecipe(steps=3, optimizer=momentum)},
        {"recipe": DescentRecipe(steps=2, optimizer=partial(torch.optim.SGD, momentum=0.8))},
        {"recipe": DescentRecipe(steps=2, optimizer=momentum, schedule=lambda step: 1.0)},
        {"random_state": 1},
        {"data": (X, 2 * Y)},
        {"data": (X, Y.flip(0))},
        {"identity": "another loss"},
        {"ema": ExponentialMovingAverage(model, 10)},
    ):
        options = {"recipe": recipe, "data": (X, Y), **other}
        with pytest.raises(ValueError, match="another run"):
            descend(loss_of(model), model, options.pop("recipe"), checkpoint=path, **options)
    foreign = [tmp_path / "junk.pt", tmp_path / "weights.pt"]
    foreign[0].write_bytes(b"junk")
    torch.save(model.state_dict(), foreign[1])
    for other in foreign:
        with pytest.raises(ValueError, match="no checkpoint"):
            descend(loss_of(model), model, recipe, (X, Y), checkpoint=other)
    before = vector(model)
    with pytest.raises(OSError, match=r"run\.pt"):
        descend(loss_of(model), model, recipe, (X, Y), checkpoint=path / "deeper" / "run.pt")
    assert torch.equal(vector(model), before)  # told before the work


@pytest.mark.parametrize(
    ("data", "other"),
    [
        (TensorDataset(X, Y), TensorDataset(X, 2 * Y)),
        (DataLoader(TensorDataset(X, Y), 20), DataLoader(TensorDataset(X, 2 * Y), 20)),
        (DataLoader(TensorDataset(X, Y), 25), DataLoader(TensorDataset(X, Y), 20)),
        (torch.utils.data.Subset(Rows(), range(60)), torch.utils.data.Subset(Rows(), range(55))),
    ],
)
def test_a_run_does_not_go_on_with_other_data(data, other, tmp_path):
    def go(data):
        model, recipe = net(), DescentRecipe(steps=2, batch_size=20)
        return descend(loss_of(model), model, recipe, data, checkpoint=tmp_path / "run.pt")

    go(data)
    assert go(data).steps == 2
    with pytest.raises(ValueError, match="another run"):
        go(other)


def test_what_is_saved_can_be_read_again(tmp_path):
    def go(keep=None):
        p, loss = bowl()
        recipe = DescentRecipe(steps=3, epoch_steps=1, lr=np.float64(0.1))
        groups = [{"params": [p], "lr": np.float64(0.05)}]
        descend(loss, groups, recipe, score=lambda: np.float64(1.0), checkpoint=path, keep=keep)
        return p.detach()

    path, plain = tmp_path / "run.pt", tmp_path / "plain"
    assert torch.equal(go(), go())
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode
    path.unlink()
    kept = SimpleNamespace(state_dict=lambda: {"a": np.zeros(3)}, load_state_dict=print)
    with pytest.raises(TypeError, match="turn NumPy's arrays"):
        go({"kept": kept})


def test_a_step_that_is_not_finite_is_skipped():
    p, loss = bowl()
    faults = {2: math.nan, 5: math.inf}
    steps = itertools.count()
    average = ExponentialMovingAverage([p], 1.0)
    result = descend(
        lambda: loss() * faults.get(next(steps), 1.0), [p], DescentRecipe(steps=8, epoch_steps=4), ema=average
    )
    assert (result.skipped, result.steps, result.stopped) == (2, 8, "budget")
    assert np.flatnonzero(np.isnan(result.losses[:, 0])).tolist() == [2, 5]
    assert all(math.isfinite(record.loss) for record in result.history)
    assert average.seen == 6
    assert p.isfinite().all()
    q = torch.zeros(1, requires_grad=True)  # the loss is finite, its gradient is not
    assert descend(lambda: q.sqrt().sum(), [q], DescentRecipe(steps=3)).skipped == 3
    assert float(q.detach()) == 0
    both = [Player(lambda: q.sum() * math.nan, [q]), Player(lambda: p.sum() * math.nan, [p])]
    assert descend(both, None, DescentRecipe(steps=3)).skipped == 3
    steep = DescentRecipe(steps=1, optimizer="sgd", lr=1e-25)  # the squares overflow, the gradient does not
    assert descend(lambda: 1e25 * q.sum(), [q], steep).skipped == 0
    assert float(q.detach()) == pytest.approx(-1)


def test_it_gives_up_after_twenty_in_a_row():
    p, loss = bowl()
    steps = itertools.count()
    with pytest.warns(ConvergenceWarning, match="20 steps in a row"):
        result = descend(
            lambda: loss() * (1.0 if next(steps) < 5 else math.nan), [p], DescentRecipe(steps=90)
        )
    assert (result.stopped, result.steps, result.skipped) == ("diverged", 25, 20)
    q, loss = bowl()
    unchecked = DescentRecipe(steps=90, epoch_steps=3, skip_nonfinite=False)
    result = descend(lambda: loss() * math.nan, [q], unchecked)
    assert (result.stopped, result.steps, result.skipped) == ("diverged", 3, 0)
    slow = [Player(lambda: loss() * math.nan, [q], every=2)]
    assert descend(slow, None, unchecked).stopped == "diverged"


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda p: p, r"scalar tensor, got shape \(2,\)"),
        (lambda p: 1.0, "got float"),
        (lambda p: p.detach().sum(), "does not depend on a parameter"),
        (lambda p: torch.ones(1, requires_grad=True).sum(), "does not depend on a parameter"),
        (lambda p: (p.sum(), p), "number shown must be a scalar"),
    ],
)
def test_bad_losses_are_refused(loss, message):
    p, _ = bowl()
    with pytest.raises(ValueError, match=message):
        descend(lambda: loss(p), [p], DescentRecipe(steps=2))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({}, "steps or epochs"),
        ({"steps": 2, "epochs": 2}, "one of them"),
        ({"steps": 2, "lr": 0.0}, "lr must be positive"),
        ({"steps": 2, "lr": 1e300}, "lr must be positive and finite"),
        ({"steps": 2, "optimizer": "adamw"}, "optimizer"),
        ({"steps": 2, "schedule": "linear"}, "schedule"),
        ({"steps": 2, "schedule": "onecycle", "warmup": 3}, "rises by itself"),
        ({"steps": 2, "autocast": torch.float16}, "no loss scaling"),
        ({"steps": 2, "grad_clip": 0.0}, "None switches clipping off"),
        ({"epochs": 2}, "epochs need data"),
        ({"steps": 2, "schedule": lambda step: math.nan}, "finite share of the rate"),
        ({"steps": 2, "optimizer": torch.optim.LBFGS}, "LBFGS evaluates the loss several times"),
    ],
)
def test_bad_recipes_are_refused(bad, message):
    p, loss = bowl()
    with pytest.raises(ValueError, match=message):
        descend(loss, [p], DescentRecipe(**bad))


def test_an_optimiser_in_place_of_what_makes_one_is_refused():
    with pytest.raises(TypeError, match="not an instance"):
        check_optimizer(torch.optim.SGD([torch.ones(1)], lr=0.1))


@pytest.mark.parametrize(
    ("bad", "message"), [({"optimizer": "adamw"}, "Did you mean 'adam'"), ({"lr": 0}, "lr must be positive")]
)
def test_bad_players_are_refused(bad, message):
    p, loss = bowl()
    with pytest.raises(ValueError, match=message):
        descend([Player(loss, [p], **bad)], None, DescentRecipe(steps=2))


def test_a_schedule_must_know_its_end():
    with pytest.raises(ValueError, match="how many steps there will be"):
        descend(loss_of(net()), net(), DescentRecipe(epochs=2, schedule="cosine"), Stream())
    assert (
        descend(loss_of(model := net()), model, DescentRecipe(epochs=2, batch_size=30), Stream()).steps == 4
    )


def test_warm_up_rises_and_then_follows_the_schedule():
    p, loss = bowl()
    rates = []
    recipe = DescentRecipe(steps=7, lr=1e-2, warmup=4, schedule=lambda step: 1 / (1 + step))
    note = lambda run: rates.append(run.players[0].optimizer.param_groups[0]["lr"])  # noqa: E731
    descend(loss, [p], recipe, on_step=note)
    assert rates == pytest.approx([2.5e-3, 5e-3, 7.5e-3, 1e-2, 1e-2, 5e-3, 1e-2 / 3])


def test_patience_returns_to_the_best():
    p = torch.zeros(1, requires_grad=True)
    recipe = DescentRecipe(steps=99, lr=0.3, optimizer=torch.optim.SGD, epoch_steps=1, patience=2)
    result = descend(lambda: (p - 1).sum(), [p], recipe, score=lambda: -abs(float(p.detach()) + 0.9))
    assert (result.stopped, result.steps) == ("patience", 5)
    assert float(p.detach()) == pytest.approx(-0.9)
    q, loss = bowl()
    kept = descend(
        loss, [q], DescentRecipe(steps=99, lr=1.1, optimizer=torch.optim.SGD, epoch_steps=1, patience=2)
    )
    assert (kept.stopped, kept.steps) == ("patience", 3)  # minus the loss unless a score is given
    assert (
        descend(loss, [q], DescentRecipe(steps=99), score=lambda: 1.0, early_stop_score=1.0).stopped
        == "early_stop"
    )


def test_callbacks_deadline_and_progress():
    p, loss = bowl()
    seen = []
    recipe = DescentRecipe(steps=6, epoch_steps=2)
    told = dict.fromkeys(("on_step", "on_epoch", "on_stop"))
    for name in told:
        told[name] = lambda run, name=name: seen.append((name, run.step, run.epoch))
    result = descend(loss, [p], recipe, progress=lambda done, text: seen.append(round(done, 3)), **told)
    assert seen[:4] == [("on_step", 1, 0), ("on_step", 2, 0), ("on_epoch", 2, 1), 0.333]
    assert seen[-2:] == [1.0, ("on_stop", 6, 3)]
    assert len(result.history) == 3
    late = descend(loss, [p], recipe, deadline=time.monotonic() - 1)
    assert (late.steps, late.stopped, late.history) == (0, "deadline", ())
    assert descend(loss, [p], recipe, on_epoch=lambda run: run.stop()).steps == 2


def test_an_error_after_an_interrupt_is_passed_on(default_interrupts):
    p, loss = bowl()

    def fail(run):
        ctrl_c(run)
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        descend(loss, [p], DescentRecipe(steps=3), on_step=fail)


def test_errors_of_callbacks_are_passed_on_and_leave_no_trace():
    p, loss = bowl()
    before, handler = torch.get_rng_state(), signal.getsignal(signal.SIGINT)

    def fail(run):
        raise LookupError

    with pytest.raises(LookupError):
        descend(loss, [p], DescentRecipe(steps=3), on_step=fail)
    assert torch.equal(torch.get_rng_state(), before)
    assert signal.getsignal(signal.SIGINT) is handler


class Breaks:
    """Interrupts the call of that number."""

    def __init__(self, what, number):
        self.what, self.number, self.calls = what, number, 0

    def __call__(self):
        self.calls += 1
        if self.calls == self.number:
            raise KeyboardInterrupt
        return self.what()


def test_an_interrupt_that_breaks_a_step_or_an_epoch_leaves_the_former_checkpoint(tmp_path):
    def go(step=None, epoch=None):
        p, loss = bowl()
        descended = descend(
            Breaks(loss, step),
            [p],
            DescentRecipe(steps=9, epoch_steps=3),
            score=Breaks(lambda: 0.0, epoch),
            checkpoint=tmp_path / "run.pt",
        )
        return descended, p.detach()

    whole, expected = go()
    assert (whole.steps, len(whole.history)) == (9, 3)
    (tmp_path / "run.pt").unlink()
    for options, epochs in (({"step": 5}, 1), ({"epoch": 1}, 1), ({"epoch": 2}, 2)):
        result = go(**options)[0]
        assert (result.stopped, len(result.history)) == ("interrupted", epochs)
    rest, found = go()
    assert torch.equal(found, expected)
    assert (rest.steps, rest.history, rest.stopped) == (9, whole.history, "budget")


def test_an_interrupt_can_be_raised_again_and_threads_have_none(default_interrupts):
    p, loss = bowl()
    with pytest.raises(KeyboardInterrupt):  # in the last step too
        descend(loss, [p], DescentRecipe(steps=1), on_step=ctrl_c, interruptible=False)
    results = []
    work = lambda: results.append(descend(loss, [p], DescentRecipe(steps=3)))  # noqa: E731
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results[0].stopped == "budget"


def test_short_precisions_and_autocast():
    model = net().bfloat16()
    result = descend(
        loss_of(model), model, DescentRecipe(steps=40, lr=0.01, batch_size=60), (X.bfloat16(), Y.bfloat16())
    )
    assert result.losses[-1, 0] < result.losses[0, 0]
    mixed, full = net(), net()
    recipe = DescentRecipe(steps=20, lr=0.01)
    descend(loss_of(full), full, recipe, (X, Y))
    descend(loss_of(mixed), mixed, DescentRecipe(steps=20, lr=0.01, autocast=torch.bfloat16), (X, Y))
    assert not torch.equal(vector(full), vector(mixed))
    torch.testing.assert_close(vector(full), vector(mixed), rtol=0.1, atol=0.05)


def test_results_travel_and_copy():
    p, loss = bowl()
    result = descend(loss, [p], DescentRecipe(steps=3, epoch_steps=1))
    assert DescentResult.from_json(result.to_json()) == result == copy.deepcopy(result)
    assert result.to_frame().loss.tolist() == result.losses[:, 0].tolist()
    assert len(result.plot().lines) == 1
    assert "after 3 steps in" in str(result)
