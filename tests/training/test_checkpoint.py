"""A checkpoint is taken up by its own run only, and only whole; what happens to the file never costs the work."""

import functools
import os
import random
import resource
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset, WeightedRandomSampler

from lodim.files import DamagedFileError
from lodim.identity import UnidentifiableError
from lodim.landscape import SubspaceModule
from lodim.nets import mlp
from lodim.randomness import build_seeded, torch_generator
from lodim.training import (
    DescentRecipe,
    ExponentialMovingAverage,
    Player,
    Recipe,
    Task,
    checkpoint,
    descend,
    fit,
)

X = torch.randn(24, 3, generator=torch_generator(0))
Y = X[:, :1] * X[:, 1:2]
RECIPE = DescentRecipe(steps=3, batch_size=8, epoch_steps=1)
FACTOR = 1.0


def net(seed=0, dropout=0.0):
    return build_seeded(lambda: nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(dropout), mlp([3, 4, 1])), seed)


def vector(model):
    tensors = [t for t in model.state_dict().values() if isinstance(t, torch.Tensor)]
    return torch.cat([t.double().reshape(-1) for t in tensors])


def loss_of(model):
    return lambda x, y: (model(x) - y).square().mean()


def run(path, model=None, loss=None, data=(X, Y), recipe=RECIPE, **options):
    model = net() if model is None else model
    descend(loss or loss_of(model), model, recipe, data, checkpoint=path, **options)
    return vector(model)


def task(**changes):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)), np.arange(40) % 2
    given = {"X": X[:24], "y": y[:24], "X_val": X[24:], "y_val": y[24:], **changes}
    return Task.from_arrays(given["X"], given["y"], given["X_val"], given["y_val"])


def classifier(seed=0):
    return build_seeded(lambda: mlp([3, 4, 2]), seed)


def fitted(path, model=None, of=None, **options):
    options = {"recipe": Recipe(epochs=2), "lr": 0.01, **options}
    return fit(classifier() if model is None else model, of or task(), checkpoint=path, **options)


@pytest.fixture(scope="module")
def a_fit(tmp_path_factory):
    """The checkpoint of a fit that has ended."""
    path = tmp_path_factory.mktemp("fit") / "run.pt"
    fitted(path)
    return path


FIRST = task()
SHUFFLED = FIRST.y.numpy()[np.random.default_rng(1).permutation(24)]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"of": task(y=SHUFFLED)}, "y of the data differs"),
        ({"of": task(X=FIRST.X.numpy()[:, [1, 0, 2]])}, "X of the data differs"),
        ({"of": task(X_val=FIRST.X_val.numpy() + 1)}, "X_val differs"),
        ({"of": task(y_val=1 - FIRST.y_val.numpy())}, "y_val differs"),
        (
            {"model": classifier(1)},
            "the parameters differs.*neither those that it began with nor .* same seed",
        ),
        ({"early_stop_score": 0.9}, r"early_stop_score \(None there, 0.9 here\) differs"),
        (
            {"early_stop_score": 0.9, "of": task(y=SHUFFLED)},
            r"early_stop_score \(.*\) and y of the data differ;",
        ),
        (
            {"lr": 0.02, "random_state": 5},
            r"lr \(0.01 there, 0.02 here\) and seed \(0 there, 5 here\) differ",
        ),
        ({"recipe": Recipe(epochs=3)}, r"epochs \(2 there, 3 here\)"),
        ({"recipe": Recipe(epochs=2, weight_decay=0.1)}, r"weight_decay \(0 there, 0.1 here\)"),
        ({"recipe": Recipe(epochs=2, optimizer="sgd")}, "optimizer differs"),
        ({"score_on": "train"}, r"score_on \('val' there, 'train' here\)"),
        ({"autocast": torch.bfloat16}, "autocast"),
        ({"record_scores": True}, "score differs"),
    ],
)
def test_fit_refuses_the_checkpoint_of_another_run_and_says_what_differs(options, names, a_fit):
    before = a_fit.read_bytes()
    with pytest.raises(ValueError, match=rf"run\.pt belongs to another run: .*{names}"):
        fitted(a_fit, **options)
    assert a_fit.read_bytes() == before


def test_what_has_been_refused_to_others_is_still_the_runs_own(a_fit):
    with pytest.raises(ValueError, match="another run"):
        fitted(a_fit, random_state=1)
    assert fitted(a_fit).steps == 2


def test_how_a_task_is_scored_counts(a_fit):
    by_area = Task(FIRST.X, FIRST.y, FIRST.X_val, FIRST.y_val, n_outputs=2, score_by="auc")
    with pytest.raises(ValueError, match="score_by"):
        fitted(a_fit, of=by_area)


def test_numbers_of_numpy_and_of_python_are_the_same_numbers(tmp_path):
    path = tmp_path / "run.pt"
    run(path, recipe=DescentRecipe(steps=3, lr=np.float64(1.0)))
    run(path, recipe=DescentRecipe(steps=3, lr=1))
    with pytest.raises(ValueError, match="another run"):
        run(path, recipe=DescentRecipe(steps=3, lr=0.25))
    path.unlink()
    run(path, random_state=2**62)
    with pytest.raises(ValueError, match="seed"):
        run(path, random_state=2**62 + 1)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.factor, self.calls = mlp([3, 4, 1]), 1.0, 0
        self.register_buffer("shift", torch.zeros(1), persistent=False)
        self.constant = torch.ones(1)

    def forward(self, x):
        self.calls += 1
        return self.constant * self.factor * self.inner(x) + self.shift


def scaled(change=lambda model: None):
    model = build_seeded(Scaled, 0)
    change(model)
    return model


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    """The checkpoint of a run of the model ``scaled`` that has ended, which it takes up itself."""
    path = tmp_path_factory.mktemp("scaled") / "run.pt"
    expected = run(path, scaled())
    assert torch.equal(run(path, scaled()), expected)
    return path


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda m: setattr(m, "factor", 2.0), "model differs"),
        (lambda m: m.inner[0].bias.requires_grad_(False), "model differs"),
        (lambda m: m.register_forward_hook(lambda *a: a[2] * 2), "model differs"),
        (lambda m: m.shift.fill_(1.0), "model differs"),
        (lambda m: m.constant.fill_(2.0), "model differs"),
        (lambda m: m.eval(), r"mode \(training or evaluation\) of the model differs"),
        (lambda m: m.inner[0].weight.data.mul_(2), "the parameters differs"),
    ],
)
def test_another_model_is_refused(change, names, a_run):
    with pytest.raises(ValueError, match=names):
        run(a_run, scaled(change))


def test_an_edited_forward_is_refused(a_run, monkeypatch):
    monkeypatch.setattr(Scaled, "forward", lambda self, x: self.inner(x).tanh())
    with pytest.raises(ValueError, match="model differs"):
        run(a_run, scaled())


def test_weights_that_are_one_are_not_two_that_are_equal(tmp_path):
    def square(tied):
        model = build_seeded(lambda: nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1)), 0)
        model[1].load_state_dict(model[0].state_dict())
        if tied:
            model[1].weight = model[0].weight
        return model

    run(tmp_path / "run.pt", square(tied=True))
    with pytest.raises(ValueError, match="model differs"):
        run(tmp_path / "run.pt", square(tied=False))


def test_a_subspace_of_another_seeds_weights_is_refused(tmp_path):
    def subspace(seed):
        return SubspaceModule(build_seeded(lambda: mlp([3, 4, 1]), seed), 5, seed=0)

    expected = run(tmp_path / "run.pt", subspace(0))
    assert torch.equal(run(tmp_path / "run.pt", subspace(0)), expected)
    with pytest.raises(ValueError, match="model and the parameters differ"):
        run(tmp_path / "run.pt", subspace(1))


@pytest.mark.trains
@pytest.mark.parametrize("patience", [None, 2])
def test_the_same_objects_may_be_used_again(tmp_path, patience):
    """Stopped half way, resumed, and read when it is finished, as in a notebook."""
    recipe = DescentRecipe(steps=6, batch_size=8, epoch_steps=1, patience=patience, lr=0.1)
    whole, model, counted = scaled(), scaled(), []
    stop = lambda run: run.stop() if run.step == 4 else None  # noqa: E731

    def counting(model, counted):
        def loss(x, y):
            counted.append(len(x))
            return (model(x) - y).square().mean()

        return loss

    score = iter([1.0, 5.0, 4.0, 4.5, 3.0, 3.0]) if patience else iter(range(6))
    again = [1.0, 5.0, 4.0, 4.5, 3.0, 3.0] if patience else list(range(6))
    first = descend(counting(whole, []), whole, recipe, (X, Y), score=lambda: next(score))
    path, average = tmp_path / "run.pt", ExponentialMovingAverage(model, 10)
    loss, calls = counting(model, counted), Scores(again)
    for on_step in (stop, None, None):
        result = descend(
            loss, model, recipe, (X, Y), score=calls, ema=average, checkpoint=path, on_step=on_step
        )
        assert torch.equal(vector(model), vector(whole)) or on_step
    assert result.losses.tobytes() == first.losses.tobytes()
    assert len(counted) == first.steps


class Scores:
    def __init__(self, values):
        self.values = list(values)

    def __call__(self):
        return self.values.pop(0)


def weighted(model, weight):
    return lambda x, y: weight * (model(x) - y).square().mean()


def with_global(model):
    return lambda x, y: FACTOR * (model(x) - y).square().mean()


def test_an_edited_loss_is_refused_but_not_for_the_tensors_and_objects_it_uses(tmp_path, monkeypatch):
    path, model = tmp_path / "run.pt", net()
    run(path, model, weighted(model, torch.ones(())))
    run(path, model, weighted(model, torch.zeros(())))  # a teacher's weights may have moved
    for other in (weighted(model, 1.0), lambda x, y: (model(x) - y).abs().mean()):
        with pytest.raises(ValueError, match="run: loss differs"):
            run(path, model, other)
    path.unlink()
    model = net()
    run(path, model, with_global(model))
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    with pytest.raises(ValueError, match="run: loss differs"):
        run(path, model, with_global(model))


def taught(model, seed=0, weights=(1.0, 1.0)):
    teacher = nn.Sequential(net(seed), nn.BatchNorm1d(1)).requires_grad_(False)  # whose statistics move
    weigh = nn.CrossEntropyLoss(weight=torch.tensor(weights))

    def loss(batch, *_):
        pair = torch.cat([model(batch), teacher(batch)], 1)
        return weigh(pair, (batch[:, 0] > 0).long())

    return loss


def test_another_teacher_or_other_class_weights_in_the_loss_are_refused(tmp_path):
    path, model = tmp_path / "run.ckpt", net()
    loss = taught(model)
    run(path, model, loss)
    run(path, model, loss)  # the same objects, after the run
    other = net()
    run(path, other, taught(other))
    for change in ({"seed": 1}, {"weights": (1.0, 5.0)}):
        other = net()
        with pytest.raises(ValueError, match="loss differs"):
            run(path, other, taught(other, **change))


class Rows(torch.utils.data.Dataset):
    def __init__(self, shift=0.0, X=X, names=("a", "b")):
        self.shift, self.X, self.names, self.cache = shift, X, list(names), {}

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        self.cache[i] = self.X[i]
        return self.X[i] + self.shift, Y[i]


class Other(Rows):
    def __getitem__(self, i):
        return self.X[i], -Y[i]


def loader(data=None, size=8, **options):
    return DataLoader(TensorDataset(X, Y) if data is None else data, size, **options)


def picked(weights):
    return loader(sampler=WeightedRandomSampler(weights, 24, generator=torch_generator(0)))


@pytest.mark.parametrize(
    ("make", "others", "name"),
    [
        (lambda: (X, Y), [(X, Y.flip(0)), (X[:, [1, 0, 2]], Y)], r"data\[[01]\]"),
        (lambda: (X, Y), [(X[:16], Y[:16])], r"data\[0\] and data\[1\] differ"),
        (lambda: (X, Y), [(X.double().float().half().float(), Y)], r"data\[0\]"),
        (lambda: {"x": X, "y": Y}, [{"x": X, "y": -Y}], r"data\['y'\]"),
        (lambda: (X.numpy(), Y.numpy()), [(X.numpy(), -Y.numpy())], r"data\[1\]"),
        (lambda: [(X, Y)], [[(X, -Y)], [(X, Y), (X, Y)]], "data"),
        (Rows, [Rows(shift=1.0), Rows(X=X.flip(0)), Rows(names=("a", "c")), Other()], "data"),
        (
            lambda: Subset(Rows(), range(20)),
            [Subset(Rows(), range(4, 24)), Subset(Other(), range(20))],
            "data",
        ),
        (
            lambda: torch.utils.data.ConcatDataset([Rows(), Rows()]),
            [torch.utils.data.ConcatDataset([Rows(), Rows(1.0)])],
            "data",
        ),
        (
            loader,
            [loader(size=7), loader(drop_last=True), loader(shuffle=True), loader(TensorDataset(X, -Y))],
            "data",
        ),
        (
            lambda: loader(shuffle=True, generator=torch_generator(0)),
            [loader(shuffle=True, generator=torch_generator(1))],
            "data",
        ),
        (lambda: picked(torch.ones(24)), [picked(torch.arange(24.0) + 1)], "data"),
    ],
)
def test_other_data_are_refused(make, others, name, tmp_path):
    def of(batch, y=None):
        return (batch["x"], batch["y"]) if y is None else (batch, y)

    def go(data):
        model = net()
        run(tmp_path / "run.pt", model, lambda *batch: loss_of(model)(*of(*batch)), data)

    data = make()
    go(data)
    go(data)  # what it keeps in a cache has changed
    go(make())
    for other in others:
        with pytest.raises(ValueError, match=rf"run: .*{name}"):
            go(other)


def test_numbers_on_disk_are_not_read_to_tell_them(tmp_path):
    rows = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (24, 3))
    rows[:] = X.numpy()
    found = run(tmp_path / "run.pt", data=Rows(X=rows))
    rows[0] += 1
    assert torch.equal(run(tmp_path / "run.pt", data=Rows(X=rows)), found)


def test_what_a_user_says_must_agree_is_named(tmp_path):
    path = tmp_path / "run.pt"
    run(path, identity={"teacher": np.arange(2000.0), "lr": 3})
    with pytest.raises(ValueError, match="run: teacher differs"):
        run(path, identity={"teacher": np.arange(2000.0) * 2, "lr": 3})
    with pytest.raises(ValueError, match=r"run: lr \(identity\) \(3 there, 4 here\) differs"):
        run(path, identity={"teacher": np.arange(2000.0), "lr": 4})
    with pytest.raises(ValueError, match="identity"):
        run(path, identity="another")
    with pytest.raises(UnidentifiableError, match="cannot be told"):
        run(path, identity=(i for i in range(3)))


def test_players_are_told_one_by_one(tmp_path):
    def go(swapped=False, **changes):
        a, b = net(0), net(1)
        players = [Player(loss_of(a), a), Player(loss_of(b), b, **{"lr": 0.1, **changes})]
        descend(players[::-1] if swapped else players, None, RECIPE, (X, Y), checkpoint=tmp_path / "run.pt")

    go()
    go()
    with pytest.raises(ValueError, match=r"run: lr of player 1 \(0.1 there, 0.2 here\) differs"):
        go(lr=0.2)
    with pytest.raises(ValueError, match="run: every of player 1"):
        go(every=2)
    with pytest.raises(ValueError, match="run: optimizer of player 1 differs"):
        go(optimizer=functools.partial(torch.optim.SGD, momentum=0.5))
    with pytest.raises(ValueError, match=r"lr of player 0 .* and the parameters differ"):
        go(swapped=True)


def point(path):
    """A small run: one step of two numbers."""
    p = torch.tensor([3.0, -2.0], requires_grad=True)
    descend(lambda: p.square().sum(), [p], DescentRecipe(steps=1), checkpoint=path)
    return p.detach()


def outcome(path):
    """Numbers of the small run at that path, and what was said."""
    with pytest.warns(UserWarning, match=rf"{path.name} is (damaged|truncated)") as said:
        found = point(path)
    return found, str(said[0].message)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The small run's checkpoint, and its numbers at the end."""
    path = tmp_path_factory.mktemp("sound") / "run.pt"
    expected = point(path)
    return path.read_bytes(), expected


def test_a_flipped_bit_is_never_resumed_from(sound, tmp_path):
    content, expected = sound
    choose, path = random.Random(0), tmp_path / "run.pt"
    last = 8 * len(content)
    seal_and_magic = [*range(last - 8 * 46, last, 9), *range(0, 8 * 32, 7)]
    for count, bit in enumerate([*seal_and_magic, *(choose.randrange(last) for _ in range(70))]):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(DamagedFileError):
            checkpoint.read(path, torch.device("cpu"))
        if count % 25:
            continue
        found, said = outcome(path)
        assert torch.equal(found, expected)
        (kept,) = tmp_path.glob("*.damaged")
        assert kept.name in said
        assert kept.read_bytes() == flipped
        kept.unlink()


@pytest.mark.parametrize("share", [0.0, 1e-4, 0.02, 0.5, 0.98, 0.9999])
def test_a_truncated_file_is_set_aside_and_the_run_starts_again(sound, share, tmp_path):
    content, expected = sound
    path = tmp_path / "run.pt"
    for number in ("", "-2"):
        path.write_bytes(content[: int(share * len(content))])
        found, said = outcome(path)
        assert torch.equal(found, expected)
        assert f"run.pt.damaged{number}, and the run starts again" in said
        assert torch.equal(point(path), expected)  # written anew


def test_a_blank_file_is_one_that_a_power_cut_left(sound, tmp_path):
    content, expected = sound
    (tmp_path / "run.pt").write_bytes(bytes(len(content)))
    assert torch.equal(outcome(tmp_path / "run.pt")[0], expected)


def test_a_damaged_file_behind_a_link_is_set_aside_beside_itself(sound, tmp_path):
    content, expected = sound
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "run.pt", tmp_path / "run.pt"
    target.write_bytes(content[:100])
    link.symlink_to(target)
    assert torch.equal(outcome(link)[0], expected)
    assert link.is_symlink()
    assert sorted(p.name for p in target.parent.iterdir()) == ["run.pt", "run.pt.damaged"]


def save_weights(path):
    torch.save(net().state_dict(), path)


def save_model(path):
    torch.save(net(), path)


def save_earlier(path):
    torch.save({"key": "abc", "players": []}, path)


def save_text(path):
    path.write_text("a,b\n1,2\n")


@pytest.mark.parametrize("save", [save_weights, save_model, save_earlier, save_text])
def test_a_file_of_another_kind_is_refused_and_left_alone(save, tmp_path):
    path = tmp_path / "model.pt"
    save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"model\.pt is no checkpoint of this version of lodim"):
        run(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_a_sealed_checkpoint_is_still_a_file_of_torchs(sound, tmp_path):
    (tmp_path / "run.pt").write_bytes(sound[0])
    content = torch.load(tmp_path / "run.pt", weights_only=True)
    assert torch.equal(content["players"][0]["loose"][0], sound[1])


@pytest.mark.parametrize("room", [200, 5_000, 16_000])
def test_a_full_disk_costs_neither_the_work_nor_the_former_checkpoint(room, tmp_path):
    """As much room as is left: none for the header, some for a part."""
    path, expected = tmp_path / "run.pt", run(None)
    run(path, on_step=lambda run: run.stop() if run.step == 1 else None)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    assert len(before) > room
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        with pytest.warns(UserWarning, match="run.pt could not be written .*the former one is kept") as said:
            found = run(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(said) == 1
    assert torch.equal(found, expected)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]
    assert torch.equal(run(path), expected)


KILLED = """
    import os, signal, sys
    from pathlib import Path
    import torch
    sys.path.insert(0, sys.argv[2])
    torch.set_num_threads(1)
    import lodim.files
    import test_checkpoint as t

    path = Path(sys.argv[1])
    t.run(None)  # what torch loads at the first step is loaded once, here
    def die(): os.kill(os.getpid(), signal.SIGKILL)

    def in_a_step(run):
        if run.step == 2: die()

    def half_written():
        os.fsync = lambda descriptor: die()

    def written():
        replace = os.replace
        os.replace = lambda *names: (replace(*names), die())

    def child(action, **options):
        pid = os.fork()
        if not pid:
            action()
            weights = t.run(path, **options)
            torch.save(weights, path.with_name("weights.pt"))
            os._exit(0)
        return os.waitpid(pid, 0)[1]

    nothing = lambda: None
    ends = [child(written), child(half_written), child(nothing, on_step=in_a_step), child(half_written), child(nothing)]
    print(ends)
"""


@pytest.mark.slow
def test_killed_in_a_step_and_while_writing_it_ends_with_the_same_bits(tmp_path):
    expected = run(None)
    here = os.path.dirname(__file__)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "run.pt"), here],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.stdout.strip() == "[9, 9, 9, 9, 0]", done.stderr
    assert torch.equal(torch.load(tmp_path / "weights.pt"), expected)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "run.pt",
        "weights.pt",
    ]  # nothing half written is left
