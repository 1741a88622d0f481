"""Any module inside a random subspace."""

import copy
import math
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from torch import nn

from lodim.landscape import Subspace, SubspaceModule
from lodim.landscape.objective_landscapes import bases
from lodim.nets import flat_spec, lenet, linear, mlp
from lodim.randomness import build_seeded
from lodim.sketch import KINDS, RandomProjection, make_projection
from lodim.training import Recipe, Task, fit


def net(seed=0):
    return build_seeded(lambda: mlp([6, 10, 4]), seed)


def moved(subspace, seed=0):
    with torch.no_grad():
        subspace.theta_d.copy_(torch.randn(subspace.d, generator=torch.Generator().manual_seed(seed)))
    return subspace


def minimise(loss, parameters):
    """L-BFGS to convergence."""
    optimizer = torch.optim.LBFGS(
        parameters, lr=1, max_iter=2000, max_eval=4000, tolerance_grad=1e-10, tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    return float(loss().detach())


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(11, 5), nn.Linear(5, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(self.embedding(x))


# identities


@pytest.mark.parametrize("kind", KINDS)
def test_at_zero_it_is_the_base_network_bit_for_bit(kind):
    base, x = lenet((1, 16, 16), 4), torch.randn(3, 1, 16, 16)
    expected = base(x).detach().clone()
    assert torch.equal(SubspaceModule(base, 40, projection=kind)(x), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_gradient_are_those_of_the_matrix(kind):
    x = torch.randn(7, 6, dtype=torch.float64)
    subspace = moved(SubspaceModule(net().double(), 9, projection=kind, seed=3))
    spec, P = subspace.spec, subspace.projection.matrix()
    v = subspace.theta_d.detach().clone().requires_grad_()
    out = spec.call(net().double(), spec.flatten(net().double()) + P @ v, (x,))
    torch.testing.assert_close(subspace(x), out)
    out.square().sum().backward()
    subspace(x).square().sum().backward()
    torch.testing.assert_close(subspace.theta_d.grad, v.grad)


def test_at_full_dimension_an_orthonormal_map_reaches_the_direct_optimum():
    X, y = load_iris(return_X_y=True)
    X = torch.as_tensor((X - X.mean(0)) / X.std(0))
    y = torch.as_tensor(y)
    subspace = SubspaceModule(linear(4, 3).double(), 15, projection="dense_orthonormal")

    def loss(model):
        return nn.functional.cross_entropy(model(X), y) + 0.005 * sum(
            p.square().sum() for p in weights(model)
        )

    def weights(model):
        return subspace.spec.unflatten(model.theta()).values() if model is subspace else model.parameters()

    direct = linear(4, 3).double()
    best = minimise(lambda: loss(direct), list(direct.parameters()))
    found = minimise(lambda: loss(subspace), [subspace.theta_d])
    assert found == pytest.approx(best, abs=1e-4)
    oracle = LogisticRegression(C=np.inf).fit(X, y)  # without the penalty there is an oracle outside torch
    plain = SubspaceModule(linear(4, 3).double(), 15, projection="dense_orthonormal")
    train_loss = minimise(lambda: nn.functional.cross_entropy(plain(X), y), [plain.theta_d])
    assert train_loss <= -oracle.predict_log_proba(X)[np.arange(150), y].mean() + 1e-4


def test_least_squares_in_a_subspace_is_the_closed_form():
    rng = np.random.default_rng(0)
    A, y = rng.normal(size=(40, 12)), rng.normal(size=40)
    base = build_seeded(lambda: nn.Linear(12, 1, bias=False), 0).double()
    subspace = SubspaceModule(base, 5, projection="dense", seed=2)
    X, target = torch.as_tensor(A), torch.as_tensor(y)[:, None]
    minimise(lambda: (subspace(X) - target).square().sum(), [subspace.theta_d])
    P, theta0 = subspace.projection.matrix().numpy(), subspace.theta0.numpy()
    closed = np.linalg.pinv(A @ P) @ (y - A @ theta0)
    np.testing.assert_allclose(subspace.theta_d.detach().numpy(), closed, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("scale", ["column", "row"])
def test_the_rate_is_scaled_so_that_a_gradient_step_moves_the_weights_alike(scale):
    subspace = SubspaceModule(net(), 8, scale=scale, train_directly=["2.bias"])
    inside, outside = subspace.param_groups(0.1)
    assert inside["params"] == [subspace.theta_d]
    assert inside["lr"] == pytest.approx(0.1 * (math.sqrt(subspace.D / 8) if scale == "column" else 1))
    assert (len(outside["params"]), outside["lr"]) == (1, 0.1)
    assert len(SubspaceModule(net(), 8).param_groups(0.1)) == 1
    # a step of Adam changes every number of v by its rate; the weights move by about the direct rate
    move = subspace.projection(torch.full((8,), inside["lr"])).square().mean().sqrt()
    assert float(move) == pytest.approx(0.1, rel=0.02)


# which numbers


def test_only_v_is_trained_and_counted():
    subspace = SubspaceModule(net(), 8)
    assert (subspace.D, subspace.d, subspace.n_trainable, subspace.redundancy) == (114, 8, 8, 106)
    assert [name for name, p in subspace.named_parameters() if p.requires_grad] == ["theta_d"]
    assert "D=114, d=8" in repr(subspace)


def test_frozen_parameters_are_not_in_the_subspace_and_stay():
    base = net()
    base[0].requires_grad_(False)
    before = base[0].weight.clone()
    subspace = SubspaceModule(base, 8)
    assert subspace.D == 44
    torch.optim.SGD(subspace.parameters(), lr=1.0).step()
    assert torch.equal(moved(subspace).materialize()[0].weight, before)


def test_a_filter_chooses_and_freezes_the_rest():
    subspace = moved(SubspaceModule(net(), 8, params=lambda name, p: p.ndim == 2))
    assert subspace.D == 100
    assert subspace.n_trainable == 8
    assert torch.equal(subspace.materialize()[0].bias, net()[0].bias)


def test_a_head_is_trained_directly_outside_the_subspace():
    subspace = SubspaceModule(net(), 8, train_directly=["2"])
    assert (subspace.D, subspace.n_trainable) == (70, 8 + 44)
    subspace(torch.randn(3, 6)).square().sum().backward()
    assert subspace.module[2].weight.grad is not None
    assert subspace.module[0].weight.grad is None
    with pytest.raises(ValueError, match="train_directly names 'head'"):
        SubspaceModule(net(), 8, train_directly=["head"])


def test_tied_weights_count_once_and_stay_tied():
    subspace = moved(SubspaceModule(LanguageModel(), 7))
    assert subspace.D == 55
    plain, x = subspace.materialize(), torch.tensor([1, 5, 10])
    assert plain.head.weight is plain.embedding.weight
    torch.testing.assert_close(plain(x), subspace(x))
    table = (subspace.theta0 + subspace.projection(subspace.theta_d)).reshape(11, 5)
    torch.testing.assert_close(subspace(x), table[x] @ table.T)
    assert [key for key in subspace.state_dict() if "weight" in key] == []
    again = SubspaceModule(build_seeded(LanguageModel, 3), 7)
    again.load_state_dict({**subspace.state_dict(), "theta0": subspace.theta0})
    torch.testing.assert_close(again(x), subspace(x))


def test_running_statistics_stay_live_and_outside():
    base = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
    twin, x = copy.deepcopy(base), torch.randn(32, 6) + 3
    subspace = SubspaceModule(base, 9)
    assert subspace.n_buffers == 5 + 5 + 1
    torch.testing.assert_close(subspace(x), twin(x))
    torch.testing.assert_close(subspace.module[1].running_mean, twin[1].running_mean)
    assert int(subspace.module[1].num_batches_tracked) == 1
    before = subspace.module[1].running_mean.clone()
    subspace.eval()(x)
    assert torch.equal(subspace.module[1].running_mean, before)
    plain = moved(subspace).materialize()
    torch.testing.assert_close(plain(x), subspace(x))
    assert not plain.training


def test_materialize_gives_an_independent_trainable_module():
    subspace = moved(SubspaceModule(net(), 8))
    plain, x = subspace.materialize(), torch.randn(5, 6)
    torch.testing.assert_close(plain(x), subspace(x), rtol=0, atol=0)
    assert all(p.requires_grad for p in plain.parameters())
    with torch.no_grad():
        plain[0].weight.zero_()
    assert float(subspace.theta()[:60].detach().abs().sum()) > 0
    assert type(plain) is nn.Sequential


def test_the_weights_are_kept_once():
    subspace = SubspaceModule(net(), 8)
    base = subspace.theta0.untyped_storage().data_ptr()
    assert all(p.untyped_storage().data_ptr() == base for p in subspace.module.parameters())
    subspace.double()
    base = subspace.theta0.untyped_storage().data_ptr()
    assert all(p.untyped_storage().data_ptr() == base for p in subspace.module.parameters())


def test_penalties_measure_weights_or_coordinates():
    subspace = moved(SubspaceModule(net(), 8, train_directly=["2.bias"]))
    with torch.no_grad():
        subspace.module[2].bias.fill_(2.0)
    assert float(subspace.l2_penalty().detach()) == pytest.approx(
        float(subspace.theta().detach().square().sum()) + 16
    )
    assert float(subspace.l2_penalty("v").detach()) == pytest.approx(
        float(subspace.theta_d.detach().square().sum()) + 16
    )
    other = moved(SubspaceModule(net(), 8, penalty="v"))
    assert float(other.l2_penalty().detach()) == pytest.approx(float(other.theta_d.detach().square().sum()))


def test_one_map_a_tensor_has_longer_columns():
    single, many = SubspaceModule(net(), 9), SubspaceModule(net(), 9, per_tensor=True, seed=1)
    eye = torch.eye(9)
    torch.testing.assert_close(single.projection(eye).norm(dim=1), torch.ones(9))
    torch.testing.assert_close(many.projection(eye).norm(dim=1), torch.full((9,), math.sqrt(4)))
    for part in many.projection(eye).split(many.spec.sizes, dim=1):  # the biases have 10 and 4 numbers
        torch.testing.assert_close(part.norm(dim=1), torch.ones(9))
    v, g = torch.randn(9), torch.randn(114)
    torch.testing.assert_close(many.projection(v) @ g, v @ many.projection.adjoint(g), rtol=1e-4, atol=1e-5)
    assert torch.equal(many.projection(v), SubspaceModule(net(), 9, per_tensor=True, seed=1).projection(v))


# moving and basing


def test_moving_the_origin_keeps_the_function_and_draws_new_directions():
    subspace, x = moved(SubspaceModule(net(), 8)), torch.randn(5, 6)
    before, directions = subspace(x).detach(), subspace.projection.matrix()
    subspace.move_origin()
    torch.testing.assert_close(subspace(x), before)
    assert float(subspace.theta_d.detach().abs().sum()) == 0
    assert not torch.equal(subspace.projection.matrix(), directions)
    torch.testing.assert_close(subspace.module(x), before)
    again = SubspaceModule(net(5), 8)
    again.load_state_dict(subspace.state_dict())
    torch.testing.assert_close(again(x), before)
    assert torch.equal(again.projection.matrix(), subspace.projection.matrix())


def test_moving_the_origin_can_keep_the_directions_or_take_a_seed():
    subspace = moved(SubspaceModule(net(), 8))
    directions = subspace.projection.matrix()
    assert torch.equal(subspace.move_origin(re_init=False).projection.matrix(), directions)
    subspace.move_origin(seed=9)
    assert torch.equal(subspace.projection.matrix(), make_projection("cyclic", 114, 8, seed=9).matrix())


@pytest.mark.trains
def test_restarts_leave_any_single_subspace():
    target = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    subspace = SubspaceModule(nn.Linear(6, 6), 7)
    losses = []
    for _ in range(25):
        losses.append(minimise(lambda: (subspace(target) - target).square().mean(), [subspace.theta_d]))
        subspace.move_origin()
    assert losses[-1] < 0.05 * losses[0]


def test_a_trajectory_gives_its_leading_directions():
    rng = torch.Generator().manual_seed(0)
    base = net()
    spec = flat_spec(base)
    start, directions = spec.flatten(base), torch.linalg.qr(torch.randn(114, 3, generator=rng)).Q
    moves = torch.randn(12, 3, generator=rng) * torch.tensor([5.0, 2.0, 0.5])
    points = [start, *(start + directions @ m for m in moves)]
    subspace = SubspaceModule.from_trajectory(net(3), points, 3)
    torch.testing.assert_close(subspace.theta0, start)
    basis = subspace.projection(torch.eye(3)).T
    torch.testing.assert_close(basis.T @ basis, torch.eye(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(basis @ (basis.T @ directions), directions, atol=1e-4, rtol=0)
    best = torch.linalg.svd(moves, full_matrices=False).Vh[0]
    two = SubspaceModule.from_trajectory(net(3), points, 1).projection(torch.ones(1))
    assert abs(float(two @ (directions @ best))) == pytest.approx(1, abs=1e-4)
    with pytest.raises(ValueError, match="3 independent directions, d=4"):
        SubspaceModule.from_trajectory(net(), points, 4)


def test_a_trajectory_of_state_dicts_travels_in_the_state():
    states = [net(seed).state_dict() for seed in range(4)]
    subspace, x = moved(SubspaceModule.from_trajectory(net(), states, 2)), torch.randn(3, 6)
    again = SubspaceModule.from_trajectory(net(), [net(seed).state_dict() for seed in (0, 7, 8)], 2)
    again.load_state_dict(subspace.state_dict())
    torch.testing.assert_close(again(x), subspace(x))
    with pytest.raises(ValueError, match="Basis cannot be drawn anew"):
        subspace.move_origin()


@pytest.mark.trains
def test_the_lottery_subspace_beats_a_random_one_of_equal_size():
    X = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    y = ((X[:, 0] * X[:, 1] > 0).long() + 2 * (X[:, 2] > 0).long()).contiguous()
    task, recipe = (
        Task(X[:150], y[:150], X[150:], y[150:], "classification", 4),
        Recipe(epochs=40, batch_size=50),
    )
    model, points = net(), []
    spec = flat_spec(model)
    points.append(spec.flatten(model))
    fit(model, task, recipe, lr=0.02, progress=lambda *_: points.append(spec.flatten(model)))
    chosen = SubspaceModule.from_trajectory(net(), points, 4)
    random = SubspaceModule(net(), 4)
    losses = [fit(s, task, recipe, lr=0.02 * s.lr_factor).loss for s in (chosen, random)]
    assert losses[0] < 0.9 * losses[1]


def test_the_functional_form_evaluates_without_gradients():
    subspace, x = moved(SubspaceModule(net(), 8)), torch.randn(5, 6)
    plane = subspace.subspace()
    v = subspace.theta_d.detach()
    torch.testing.assert_close(plane.vector(v), subspace.theta().detach())
    assert plane.vector(torch.zeros(3, 8)).shape == (3, 114)
    torch.testing.assert_close(plane.to_module(v)(x), subspace(x))
    assert plane.d == 8
    base = net()
    bare = Subspace(flat_spec(base).flatten(base), make_projection("dense", 114, 8), base)
    torch.testing.assert_close(bare.to_module(torch.zeros(8))(x), base(x))
    with pytest.raises(ValueError, match="needs the network"):
        Subspace(bare.theta0, bare.projection).to_module(v)


# errors


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="d=0; the module has D=114"):
        SubspaceModule(net(), 0)
    with pytest.raises(ValueError, match="d=115; the module has D=114"):
        SubspaceModule(net(), 115)
    with pytest.raises(ValueError, match="no trainable parameter"):
        SubspaceModule(net().requires_grad_(False), 3)
    with pytest.raises(ValueError, match="'countsketch'"):
        SubspaceModule(net(), 3, projection="countskech")
    with pytest.raises(ValueError, match="run one forward first"):
        SubspaceModule(nn.LazyLinear(3), 2)
    with pytest.raises(TypeError, match="complex"):
        SubspaceModule(nn.Linear(2, 2, dtype=torch.complex64), 2)
    with pytest.raises(ValueError, match="wanted are d=4 and D=114"):
        SubspaceModule(net(), 4, projection=make_projection("cyclic", 100, 4))
    with pytest.raises(ValueError, match="given by its kind"):
        SubspaceModule(net(), 4, projection=make_projection("cyclic", 114, 4), per_tensor=True)
    with pytest.raises(ValueError, match="penalty"):
        SubspaceModule(net(), 4, penalty="w")


# precision, devices, memory, compilation


@pytest.mark.parametrize("kind", ["cyclic", "dense", "fastfood", "kron"])
def test_half_precision_modules_have_the_same_map(kind):
    full = SubspaceModule(net(), 8, projection=kind, seed=1)
    half = SubspaceModule(net().bfloat16(), 8, projection=kind, seed=1)
    cast = SubspaceModule(net(), 8, projection=kind, seed=1).bfloat16()
    assert half.theta().dtype == cast.theta().dtype == torch.bfloat16
    e0 = torch.eye(8)[0]
    for module in (half, cast):
        torch.testing.assert_close(module.projection(e0), full.projection(e0))
    assert half(torch.randn(2, 6).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["dense", "kron", "cyclic"])
def test_autocast_leaves_the_produced_weights_in_full_precision(kind):
    subspace = moved(SubspaceModule(net(), 8, projection=kind))
    expected = subspace.theta().detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(subspace.theta(), expected)
        out = subspace(torch.randn(4, 6))
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert subspace.theta_d.grad.dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_has_the_same_map_and_function(kind):
    here, x = moved(SubspaceModule(net(), 8, projection=kind)), torch.randn(4, 6)
    there = copy.deepcopy(here).cuda()
    torch.testing.assert_close(there(x.cuda()).cpu(), here(x), rtol=1e-4, atol=1e-5)
    there(x.cuda()).sum().backward()
    here(x).sum().backward()
    torch.testing.assert_close(there.theta_d.grad.cpu(), here.theta_d.grad, rtol=1e-4, atol=1e-4)


def peak_is_told():
    """Return whether the system says how much memory a process had at most: Linux does, outside of some containers."""
    told = Path("/proc/self/status")
    return told.exists() and "VmHWM" in told.read_text()


@pytest.mark.skipif(not peak_is_told(), reason="reads the peak memory as Linux reports it")
def test_memory_of_a_step_stays_small_and_the_matrix_is_never_formed():
    code = """
import re, torch
from lodim.landscape import SubspaceModule
from lodim.sketch import RandomProjection
def refuse(self): raise AssertionError("the matrix was formed")
RandomProjection.matrix = refuse
D = 2500 * 2000
module, x = torch.nn.Linear(2500, 2000, bias=False), torch.ones(2, 2500)
def step(subspace, x):  # torch.optim would take longer to import than everything else
    subspace(x).sum().backward()
    subspace.theta_d.data.sub_(subspace.theta_d.grad, alpha=0.1)
step(SubspaceModule(torch.nn.Linear(3, 3), 2, projection="countsketch"), torch.ones(1, 3))
def peak():  # of this program alone: ru_maxrss would start from the size of the process that forked it
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = peak()
subspace = SubspaceModule(module, 1000, projection="countsketch")
step(subspace, x)
print((peak() - before) / (4 * D))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    words = float(done.stdout)
    assert 1 < words < 12  # at least the origin and the weights; below twelve copies of them


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("kind", ["cyclic", "fastfood"])
def test_it_compiles_without_graph_breaks(kind):
    code = f"""
import torch
from lodim.landscape import SubspaceModule
from lodim.nets import mlp
subspace, x = SubspaceModule(mlp([6, 10, 4]), 8, projection={kind!r}), torch.randn(4, 6)
with torch.no_grad():
    subspace.theta_d.copy_(torch.randn(8))
compiled = torch.compile(subspace, fullgraph=True)
torch.testing.assert_close(compiled(x), subspace(x), rtol=1e-5, atol=1e-5)
compiled(x).square().sum().backward()
found, subspace.theta_d.grad = subspace.theta_d.grad, None
subspace(x).square().sum().backward()
torch.testing.assert_close(found, subspace.theta_d.grad, rtol=1e-4, atol=1e-5)
"""
    # in a process of its own: the run-time type checks of the tests are not made to be traced
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_map_of_ones_own_will_do():
    P = make_projection("srht", 114, 8, seed=5)
    assert isinstance(P, RandomProjection)
    subspace, other = (
        SubspaceModule(net(), 8, projection=P),
        SubspaceModule(net(), 8, projection="srht", seed=5),
    )
    torch.testing.assert_close(moved(subspace).theta(), moved(other).theta())


@pytest.mark.parametrize("name", ["embedding", "head", "head.weight"])
def test_a_tied_weight_is_trained_directly_by_any_of_its_names(name):
    class Deeper(LanguageModel):
        def __init__(self):
            super().__init__()
            self.middle = nn.Linear(5, 5)

    subspace = SubspaceModule(Deeper(), 7, train_directly=[name])
    assert (subspace.D, subspace.n_trainable) == (30, 7 + 55)


@pytest.mark.parametrize(
    "options", [{"per_tensor": True}, {"projection": "given"}, {"projection": "given", "said": "layer"}]
)
def test_an_origin_stays_where_new_directions_cannot_be_drawn(options):
    if "projection" in options:
        given = make_projection("dense", 114, 8).matrix()
        options = {**options, "projection": bases.Basis(given)}
    subspace = moved(SubspaceModule(net(), 8 + 2 * ("said" in options), **options))
    before, v = subspace.theta0.clone(), subspace.theta_d.detach().clone()
    with pytest.raises(ValueError, match="cannot be drawn anew; use re_init=False"):
        subspace.move_origin()
    assert torch.equal(subspace.theta0, before)
    assert torch.equal(subspace.theta_d.detach(), v)
    assert not subspace.save_theta0
    reached = subspace.theta().detach()
    torch.testing.assert_close(subspace.move_origin(re_init=False).theta0, reached)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("options", [{}, {"said": "tensor"}, {"train_directly": ["2"]}])
def test_copies_and_pickles_hold_the_weights_once(again, options):
    deep = build_seeded(lambda: mlp([6, 40, 40, 40, 40, 4]), 0)
    subspace, x = moved(SubspaceModule(deep, 12, **options)), torch.randn(3, 6)
    one = again(subspace)
    assert torch.equal(one(x), subspace(x))
    storage = {p.untyped_storage().data_ptr() for p in one.module.parameters() if not p.requires_grad}
    assert storage == {one.theta0.untyped_storage().data_ptr()}
    assert not storage & {p.untyped_storage().data_ptr() for p in subspace.module.parameters()}
    assert one.recompute.module is one.module
    with torch.no_grad():
        one.theta_d.add_(1)
    assert not torch.equal(one(x), subspace(x))
    assert len(pickle.dumps(subspace)) < 1.5 * len(pickle.dumps(subspace.materialize()))


def test_a_copy_of_tied_weights_stays_tied():
    one = copy.deepcopy(SubspaceModule(LanguageModel(), 5))
    assert one.module.head.weight is one.module.embedding.weight
