"""Comparing ways of spending few bytes: plans fit, sizes are what is stored, nothing is lost."""

import math
import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from lodim.identity import content_hash
from lodim.landscape import WAYS, Comparison, DoesNotFitError, Origin, Way, compare
from lodim.landscape.code_lengths import message_length_bits
from lodim.landscape.comparison.adapters import insert_lora
from lodim.landscape.comparison.bench import SEED_BYTES, Stored, Workbench, moving_buffers, store_halves
from lodim.landscape.comparison.result import mean_and_interval
from lodim.landscape.comparison.run import DENSE, _beyond, _Job, _Race, as_task, check_budgets, choose_ways
from lodim.landscape.nm_sparsity import compress, decompress
from lodim.landscape.quantization import quant_layers, size_report
from lodim.nets import mlp
from lodim.training import Recipe, Task

pytestmark = pytest.mark.trains


def blobs(n=240, seed=0):
    """Three well separated groups in eight dimensions."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    X = rng.normal(size=(n, 8)) + 4 * np.eye(3, 8)[y]
    half = n // 2
    return X[:half], y[:half], X[half:], y[half:]


# not a function of this file: worker processes cannot import test files
make_model = partial(mlp, [8, 16, 16, 3])


QUICK = {"recipe": Recipe(epochs=3, batch_size=32), "lr": 1e-2, "n_seeds": 1, "random_state": 1}
BRIEF = {**QUICK, "recipe": Recipe(epochs=1, batch_size=40), "lr_grid": [3.0]}
NAMES = [name for name, way in WAYS.items() if way.available()]


@pytest.fixture(scope="module")
def every():
    """All ways, at budgets of which the first is too small for some."""
    return compare(make_model, blobs(), None, [200, 1500], **BRIEF)


@pytest.mark.parametrize("name", NAMES)
def test_every_plan_fits_its_budget_and_is_stored_within_it(every, name):
    assert every.failed == {}
    mine = [s for s in every.spendings if s.way == name]
    assert mine
    for spending in mine:
        assert 0 < spending.n_bytes <= spending.budget
        assert 0 <= spending.score <= 1
    sizes = [s.n_bytes for s in mine]
    assert sizes == sorted(sizes)


def test_more_bytes_help():
    args = {**QUICK, "recipe": Recipe(epochs=10, batch_size=32), "n_seeds": 2}  # five seeds: 0.971 or more
    found = compare(make_model, blobs(), methods=["subspace"], budget_bytes=[12, 900], lr_grid=[3.0], **args)
    frame = found.to_frame()
    assert frame["score"].iloc[1] > frame["score"].iloc[0]
    assert frame["score"].iloc[1] > 0.9
    assert np.mean(found.dense) > 0.9
    assert found.dense_bytes == 4 * sum(p.numel() for p in make_model().parameters())


def test_a_grid_of_too_small_rates_is_extended_at_its_end():
    recipe = Recipe(
        epochs=10, batch_size=32
    )  # over five seeds 0.95 and more with 27 times the rate, 0.72 with 3 times
    args = {"methods": ["subspace"], "budget_bytes": [300], **QUICK, "lr": 1e-3, "recipe": recipe}
    found = compare(make_model, blobs(), **args, lr_grid=[1.0, 3.0])
    assert found.spendings[0].lr > 4e-3
    fixed = compare(make_model, blobs(), **args, lr_grid=[3.0])
    assert fixed.spendings[0].lr == pytest.approx(3e-3)
    assert found.spendings[0].score > fixed.spendings[0].score


@pytest.mark.parametrize(
    ("scores", "beyond"),
    [
        ({1.0: 0.2, 3.0: 0.4, 9.0: 0.6}, (27.0,)),
        ({1.0: 0.9, 3.0: 0.4, 9.0: 0.6}, (1 / 3,)),
        ({1.0: 0.2, 3.0: 0.7, 9.0: 0.6}, ()),
        ({1.0: 0.5, 3.0: 0.5, 9.0: 0.5}, (27.0,)),
        ({1.0: 0.5, 3.0: 0.5, 9.0: 0.4}, ()),
        ({1.0: 0.5, 3.0: 0.6, 9.0: -math.inf}, ()),
        ({1.0: -math.inf, 3.0: -math.inf}, ()),
    ],
)
def test_what_is_tried_past_the_ends_of_a_grid(scores, beyond):
    assert _beyond(scores) == pytest.approx(beyond)


def test_halves_are_what_is_scored_and_counted():
    net = nn.Linear(3, 2)
    net.bias.requires_grad_(False)
    weight = net.weight.detach().clone()
    stored = store_halves(net, "x", Origin(net))
    assert torch.equal(stored.module.weight, weight.half().float())
    assert not torch.equal(stored.module.weight, weight)
    assert (stored.n_numbers, stored.n_bytes) == (6, SEED_BYTES + 12)
    net.weight.data[0, 0] = 1e6
    with pytest.raises(ValueError, match="half precision"):
        store_halves(net, "x", Origin(net))


def normalised():
    """A network whose first and last normalisation could be folded into a layer; the one behind the ReLU could not."""
    return nn.Sequential(
        nn.Linear(8, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.BatchNorm1d(16),
        nn.Linear(16, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Linear(16, 3),
    )


@pytest.fixture(scope="module")
def benches():
    """A bench that trains, its dense model known, and one that does not."""
    task = Task.from_arrays(*blobs())
    origin = Origin(normalised, 3, moving=moving_buffers(normalised(), task.X))
    bench, fresh = (kind(origin, task, BRIEF["recipe"], 1e-2, seed=5) for kind in (Workbench, Idle))
    return replace(bench, dense_state=bench.dense.state_dict()), fresh


class Idle(Workbench):
    """Everything but the training."""

    def train(self, module, **_):
        """Leave the module as it is."""


def test_buffers_that_training_moves_are_found():
    X = torch.randn(20, 8)
    moving = moving_buffers(normalised(), X)
    assert moving == tuple(f"{i}.running_{what}" for i in (1, 3, 5) for what in ("mean", "var"))
    assert moving_buffers(make_model(), X) == ()
    fixed = nn.Sequential(nn.BatchNorm1d(8, track_running_stats=False), nn.BatchNorm1d(8, momentum=0.0))
    fixed.register_buffer("table", torch.ones(5))
    assert moving_buffers(fixed, X) == ()
    net = normalised()
    before = {name: b.clone() for name, b in net.named_buffers()}
    moving_buffers(net, X)
    assert all(torch.equal(b, before[name]) for name, b in net.named_buffers())


def test_running_statistics_are_counted_in_single_precision_behind_any_wrapper():
    origin = Origin(normalised, moving=("1.running_mean", "1.running_var"))
    assert origin.buffer_bytes == 2 * 4 * 16
    n = sum(p.numel() for p in normalised().parameters())
    for module in (origin.make(), nn.Sequential(nn.Sequential(origin.make())).double()):
        assert store_halves(module, "x", origin).n_bytes == SEED_BYTES + 2 * n + 2 * 4 * 16
    module[0][0][1].running_var.fill_(1 / 3)
    store_halves(module, "x", origin)
    assert torch.equal(module[0][0][1].running_var, torch.full((16,), 1 / 3).double())


@pytest.mark.parametrize(
    ("name", "budget"),  # the second budget for ways whose settings are of several kinds
    [*((name, 1500) for name in NAMES), ("bits", 1200), ("product codes", 1200), ("N:M", 1200)],
)
def test_what_is_counted_rebuilds_what_is_scored_and_fits_with_running_statistics(benches, name, budget):
    bench, fresh = map(replace, benches)
    way = WAYS[name]
    setting = way.plan(bench.origin, budget)
    stored, again = way.spend(bench, setting), way.spend(fresh, setting).module
    assert stored.n_bytes <= budget
    kept = bench.origin.kept_buffers(stored.module)
    assert stored.n_bytes == rebuild(name, setting, stored.module, again) + 4 * sum(b.numel() for b in kept)
    with torch.no_grad():
        for mine, theirs in zip(fresh.origin.kept_buffers(again), kept, strict=True):
            assert not torch.equal(mine, theirs)
            mine.copy_(theirs.float())
    X = bench.task.X_val
    assert torch.equal(again.eval()(X), stored.module.eval()(X))
    left = sum(isinstance(layer, nn.BatchNorm1d) for layer in stored.module.modules())
    assert len(kept) == 2 * left
    assert left == 3 or name in ("bits", "product codes")  # only these may fold a normalisation into a layer


@torch.no_grad()
def rebuild(name, setting, stored, again):
    """Write what was kept of a trained module into a fresh one; return the bytes of what was written."""
    layers = quant_layers(stored)
    coded = {id(layer.layer.weight) for layer in layers.values()}
    for other, layer in zip(quant_layers(again).values(), layers.values(), strict=True):
        other.layer.weight.copy_(layer.quantized_weight())
        other.weight_quantizer.load_state_dict(layer.weight_quantizer.state_dict())
    pairs = [
        (mine, p)
        for mine, p in zip(again.parameters(), stored.parameters(), strict=True)
        if id(p) not in coded
    ]
    n_bytes = sum(layer.bytes for layer in size_report(stored).layers) if layers else 0
    inside = {id(p) for layer in layers.values() for p in layer.weight_quantizer.parameters()}
    for mine, p in pairs:
        if name not in ("bits", "product codes") and not p.requires_grad:
            assert torch.equal(mine, p)  # follows from the origin and the seed
            continue
        half = p.half()
        assert torch.equal(half.float(), p)
        mine.copy_(half)
        n_bytes += 0 if id(p) in inside else 2 * p.numel()
    if name == "N:M":
        sparse = [layer for layer in stored if getattr(layer, "in_features", 1) % setting[1] == 0]
        for layer in sparse:
            short = compress(layer.weight.half(), *setting)
            assert torch.equal(decompress(short).float(), layer.weight)
            n_bytes += 2 * (short.values.numel() - layer.weight.numel()) + short.places.numel()
        return n_bytes
    if name == "subspace, coded":
        values, codes = stored.theta_d.unique(return_inverse=True)
        assert len(values) <= 16
        return SEED_BYTES + math.ceil(message_length_bits(codes.numpy(), len(values)) / 8)
    return n_bytes + (0 if layers else SEED_BYTES)


def test_ways_are_compared_at_equal_bytes_with_running_statistics():
    found = compare(normalised, blobs(), NAMES, 600, **BRIEF)
    assert found.failed == {}
    assert set(found.ways) | set(found.too_small) == set(NAMES)
    assert all(s.n_bytes <= 600 for s in found.spendings)
    n_buffers = 6 * 16
    assert found.dense_bytes == 4 * (n_buffers + sum(p.numel() for p in normalised().parameters()))


@pytest.mark.parametrize("budget", [60, 100, 333, 1000])
def test_a_coded_plan_fits_for_the_worst_codes_and_hardly_less(budget):
    origin = Origin(make_model)
    d = WAYS["subspace, coded"].plan(origin, budget) if budget >= 100 else None
    if d is None:
        with pytest.raises(DoesNotFitError) as error:
            WAYS["subspace, coded"].plan(origin, budget)
        assert WAYS["subspace, coded"].plan(origin, error.value.least) == 16
        return
    size = SEED_BYTES + message_length_bits(np.arange(d) % 16, 16) / 8
    D = sum(p.numel() for p in make_model().parameters())
    assert size <= budget
    assert d == D or size > 0.9 * budget - 4


def test_a_model_given_is_the_origin_and_stays_as_it_was():
    net = make_model()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    compare(net, blobs(), methods=["subspace"], budget_bytes=[100], lr_grid=[1.0], **QUICK)
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_same_seed_gives_the_same_comparison_in_one_process_or_two(n_jobs):
    args = {
        "methods": ["subspace", "FLoRA"],
        "budget_bytes": 500,
        **BRIEF,
        "lr_grid": [1.0, 3.0],
        "n_seeds": 2,
    }
    scores = [
        [s.score for s in compare(make_model, blobs(), **args, n_jobs=n).spendings] for n in (1, n_jobs)
    ]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("name", NAMES)
def test_ways_travel_to_other_processes(name):
    way = pickle.loads(pickle.dumps(WAYS[name]))
    origin = Origin(make_model)
    assert way.plan(origin, 1500) == WAYS[name].plan(origin, 1500)
    assert content_hash(way.spend) == content_hash(WAYS[name].spend)


def test_runs_are_kept_and_not_made_again(tmp_path):
    log = tmp_path / "log"

    def spend(bench, setting):
        with log.open("a") as file:
            file.write(f"{setting}\n")
        return WAYS["subspace"].spend(bench, setting)

    ways = {"mine": Way(WAYS["subspace"].plan, spend, "none")}
    args = {"methods": ways, "budget_bytes": [100], "lr_grid": [1.0], "cache_dir": tmp_path / "runs", **QUICK}
    first = compare(make_model, blobs(), **args)
    made = log.read_text().split()
    second = compare(make_model, blobs(), **args)
    assert len(made) == 1
    assert log.read_text().split() == made
    assert [s.score for s in first.spendings] == [s.score for s in second.spendings]


def test_runs_are_kept_for_models_with_counters_too(tmp_path):
    args = {"methods": ["subspace"], "budget_bytes": [900], "lr_grid": [1.0], **QUICK}
    found = [compare(normalised, blobs(), **args, cache_dir=tmp_path) for _ in range(2)]
    assert [s.to_dict() for s in found[0].spendings] == [s.to_dict() for s in found[1].spendings]


def changed(what):
    """Data with the same sums, in another order or with other labels; another model; other code."""
    X, y, X_val, y_val = blobs()
    order = np.random.default_rng(1).permutation(len(y))
    return {
        "labels": {"data": (X, y[order], X_val, y_val)},
        "inputs": {"data": (X[order], y, X_val, y_val)},
        "validation": {"data": (X, y, X_val, y_val[order])},
        "model": {"model": partial(mlp, [8, 16, 16, 3], activation="tanh")},
        "start": {"random_state": 2},
        "recipe": {"recipe": Recipe(epochs=4, batch_size=32)},
    }[what]


@pytest.fixture(scope="module")
def kept_runs(tmp_path_factory):
    """A comparison's arguments, the folder of its runs, and how many there are."""
    folder = tmp_path_factory.mktemp("runs")
    args = {"methods": ["subspace"], "budget_bytes": [200], "model": make_model, "data": blobs(), **BRIEF}
    compare(**args, cache_dir=folder)
    return args, folder, len(list(folder.iterdir()))


@pytest.mark.parametrize("what", ["labels", "inputs", "validation", "model", "start", "recipe"])
def test_kept_runs_are_those_of_the_same_data_model_and_recipe(what, kept_runs):
    args, folder, n_files = kept_runs
    other, before = {**args, **changed(what)}, len(list(folder.iterdir()))
    kept, plain = compare(**other, cache_dir=folder), compare(**other)
    assert len(list(folder.iterdir())) == before + n_files
    assert [s.score for s in kept.spendings] == [s.score for s in plain.spendings]
    assert kept.dense == plain.dense


def spent(bench, setting, steps=3):
    """Say something."""
    return steps


def spent_and_documented_otherwise(bench, setting, steps=3):
    """Say something else."""
    return steps


def spent_more(bench, setting, steps=4):
    return steps


class Edited(nn.Linear):
    """A layer whose code, and nothing that is printed of it, is another."""

    def forward(self, x):
        return super().forward(x).tanh()


Edited.__name__ = Edited.__qualname__ = "Linear"


def keys(job=_Job("mine", "4 bits", 500, 0, 1.0), dense=0.0, model=make_model, spend=spent):  # noqa: B008
    """The name under which a run of a way of the user's is kept."""
    race = _Race(
        model, Task.from_arrays(*blobs()), QUICK["recipe"], 1e-2, 0, {"mine": Way(len, spend, "none")}
    )
    race.tell_contents()
    race.dense_states = {0: {"weight": torch.full((2,), dense)}, 1: {"weight": torch.zeros(2)}}
    return race.key(job)


def test_kept_runs_know_the_dense_model_they_start_from():
    assert keys(dense=0.0) != keys(dense=1.0)
    for job in (
        _Job("mine", "4 bits", 500, 1, 1.0),  # that of another seed
        _Job("mine", "4 bits", 500, 0, 1.0, held_out=True),
        _Job(DENSE, None, 0, 0, 3.0),
    ):
        assert keys(job, dense=0.0) == keys(job, dense=1.0)


def test_kept_runs_know_the_code_of_ways_and_models_but_not_its_description():
    assert keys(spend=spent) == keys(spend=spent_and_documented_otherwise)
    others = [spent_more, partial(spent, steps=60), partial(spent, steps=2)]
    assert len({keys(spend=way) for way in (spent, *others)}) == 4
    layers = [nn.Linear(8, 3), Edited(8, 3)]
    layers[1].load_state_dict(layers[0].state_dict())
    assert repr(layers[0]) == repr(layers[1])
    assert keys(model=layers[0]) != keys(model=layers[1])
    assert keys(model=partial(mlp, [8, 3])) != keys(model=partial(mlp, [8, 3], activation="tanh"))


def test_settings_of_a_users_own_kind_are_told_by_what_they_hold():
    settings = [np.arange(2000.0), np.arange(2000.0)]
    settings[1][1000] = 0.5
    first, second = (keys(_Job("mine", setting, 500, 0, 1.0)) for setting in settings)
    assert first == keys(_Job("mine", settings[0].copy(), 500, 0, 1.0))
    assert first != second


def test_a_way_that_cannot_be_told_is_refused_before_any_run(tmp_path):
    started = []
    with (tmp_path / "open").open("w") as held:

        def spend(bench, setting):
            started.append(held)

        ways = {"mine": Way(WAYS["subspace"].plan, spend, "none")}
        with pytest.raises(TypeError, match=r"the way 'mine' cannot be told: .*TextIOWrapper"):
            compare(make_model, blobs(), ways, 100, cache_dir=tmp_path / "runs", **QUICK)
    assert not started


def test_methods_and_budgets_may_follow_without_names():
    args = {"lr_grid": [1.0], **QUICK}
    found = compare(make_model, blobs(), ["subspace"], 300, **args)
    named = compare(make_model, blobs(), methods="subspace", budget_bytes=[300], **args)
    assert [s.score for s in found.spendings] == [s.score for s in named.spendings]


def test_a_way_that_does_not_apply_is_said_with_the_reason():
    net = partial(mlp, [7, 11, 3])  # primes: nothing for Kronecker products or groups to divide
    X, y, X_val, y_val = blobs()
    data = (X[:, :7], y, X_val[:, :7], y_val)
    found = compare(net, data, ["subspace", "hypercomplex", "N:M"], 100, lr_grid=[1.0], **QUICK)
    assert found.ways == ("subspace",)
    assert set(found.failed) == {"hypercomplex", "N:M"}
    assert "divide" in str(found)
    with pytest.raises(ValueError, match="hypercomplex does not apply"):
        compare(net, data, "hypercomplex", 100, **QUICK)


@pytest.mark.parametrize("name", ["subspace", "bits", "N:M", "FLoRA"])
def test_a_model_in_double_precision(name):
    net = normalised().double()
    found = compare(net, blobs(), name, [1500], **BRIEF)
    assert found.failed == {}
    assert found.spendings[0].n_bytes <= 1500


def convolutional():
    """Grouped convolutions, and names of which one is the ending of another: "0.1" of "1"."""
    first = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3, groups=2)
    )
    return nn.Sequential(nn.Sequential(first, nn.Flatten()), nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 2))


def test_every_way_takes_convolutions_of_several_kinds():
    X = np.random.default_rng(0).normal(size=(80, 1, 6, 6))
    y = (X.mean((1, 2, 3)) > 0).astype(int)
    data = (X[:40], y[:40], X[40:], y[40:])
    found = compare(convolutional, data, NAMES, 1400, device="cpu", **BRIEF)
    assert found.failed == {}
    assert set(found.ways) | set(found.too_small) == set(NAMES)
    assert all(s.n_bytes <= 1400 for s in found.spendings)


@pytest.mark.skipif(not WAYS["LoRA"].available(), reason="needs peft")
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_low_rank_updates_reach_every_layer_and_no_other(rank):
    module = insert_lora(convolutional(), rank)
    found = [name for name, layer in module.named_modules() if hasattr(layer, "lora_A")]
    assert found == ["0.0.0", "0.0.3", "1", "3"]
    layers = dict(module.named_modules())
    assert {name: layers[name].r["default"] for name in found} == {
        "0.0.0": rank,
        "0.0.3": 2 * math.ceil(rank / 2),  # of two groups
        "1": rank,
        "3": rank,
    }
    assert {layers[name].scaling["default"] for name in found} == {1.0}


def test_a_regression_and_a_single_budget():
    X, _, X_val, _ = blobs()
    data = (X, X @ np.arange(8), X_val, X_val @ np.arange(8))
    quick = {**QUICK, "recipe": Recipe(epochs=6, batch_size=32), "lr": 0.1}
    found = compare(partial(mlp, [8, 16, 1]), data, ["subspace", "bits"], 400, lr_grid=[1.0], **quick)
    assert found.score_name == "R²"
    assert found.failed == {}
    assert max(s.score for s in found.spendings) > 0


def test_a_way_that_breaks_is_said_and_the_others_are_kept():
    def spend(bench, setting):
        raise ArithmeticError("no such luck")

    ways = {"broken": Way(lambda origin, budget: budget, spend, "none"), "subspace": WAYS["subspace"]}
    found = compare(make_model, blobs(), methods=ways, budget_bytes=[100], lr_grid=[1.0, 3.0], **QUICK)
    assert found.ways == ("subspace",)
    assert "no such luck" in found.failed["broken"]
    assert "broken is missing" in str(found)


def test_a_way_that_takes_more_than_planned_fails():
    def spend(bench, setting):
        return Stored(bench.origin.make(), setting + 1, 1, "greedy")

    found = compare(
        make_model,
        blobs(),
        methods={"greedy": Way(lambda o, b: b, spend, "none"), "subspace": WAYS["subspace"]},
        budget_bytes=[100],
        lr_grid=[1.0],
        **QUICK,
    )
    assert "takes 101" in found.failed["greedy"]


def test_intervals_over_seeds():
    mean, low, high = mean_and_interval([1.0, 2.0, 3.0], 0.95)
    assert mean == 2
    assert high - mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert low + high == pytest.approx(4)
    assert math.isnan(mean_and_interval([1.0], 0.95)[1])


def test_tables_pictures_and_json(tmp_path):
    found = compare(
        make_model,
        blobs(),
        ["subspace", "subspace, coded"],
        [30, 300],
        **{**BRIEF, "n_seeds": 2},
    )
    assert found.too_small["subspace, coded"] > 30
    assert "needs at least" in str(found)
    assert "-: too few bytes" in str(found)
    assert set(found.to_frame().columns) >= {"way", "bytes", "score", "low", "high"}
    again = Comparison.from_json(found.to_json())
    assert again.to_frame().equals(found.to_frame())
    assert found.plot().get_xscale() == "log"
    assert found.best(300).n_bytes <= 300
    with pytest.raises(ValueError, match="nothing fits 1 bytes"):
        found.best(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["sub-space"]}, "methods must be one of"),
        ({"budget_bytes": []}, "at least one budget"),
        ({"budget_bytes": [0]}, "budget_bytes must be at least 1"),
        ({"budget_bytes": [9], "methods": ["subspace"]}, "no method fits any budget"),
        ({"lr_grid": []}, "positive multipliers"),
        ({"n_seeds": 0}, "n_seeds must be at least 1"),
        ({"methods": []}, "at least one way"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        compare(make_model, blobs(), **{**QUICK, **options})


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (choose_ways, 300, "names of ways"),
        (choose_ways, [300, 1000], "budgets go into budget_bytes"),
        (choose_ways, {"mine": len}, "must be a Way"),
        (check_budgets, "subspace", "budget_bytes must be an integer"),
        (check_budgets, ["subspace"], "budget_bytes must be an integer"),
        (check_budgets, 1e3, "budget_bytes must be an integer"),
        (as_task, iter(blobs()), "gather what a loader"),
        (as_task, blobs()[:2], "got 2 of them"),
    ],
)
def test_arguments_of_another_kind(check, value, message):
    with pytest.raises(TypeError, match=message):
        check(value)


def test_a_maker_that_returns_one_model_for_ever_is_refused():
    net = make_model()
    with pytest.raises(ValueError, match="new module at each call"):
        compare(lambda: net, blobs(), ["subspace"], 100, **BRIEF)


def test_the_picture_shows_the_scores_however_wide_their_intervals(every):
    twice = tuple(replace(s, seed=1, score=s.score - 0.2) for s in every.spendings)
    wide = replace(every, spendings=every.spendings + twice)
    low, high = wide.plot().get_ylim()
    scores = [*wide.dense, *(s.score for s in wide.spendings)]
    assert min(scores) - 0.2 < low < min(scores)
    assert max(scores) < high < max(scores) + 0.2
