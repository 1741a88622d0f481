"""Structure-aware directions: lambda_i (P v)_i, its gradients, what is counted, what is refused."""

import io
import math
import os
import shutil
import socket
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lodim.landscape import LandscapeDimension, QuantizedSubspace, SubspaceModule
from lodim.landscape.objective_landscapes.structure import StructureAware, group_tensors
from lodim.nets import flat_spec, mlp
from lodim.randomness import build_seeded
from lodim.sketch import KINDS, make_projection
from lodim.training import Recipe, Task, fit

M = 4  # tensors of the network below


def net(seed=0):
    return build_seeded(lambda: mlp([6, 10, 4]), seed)


def moved(subspace, seed=0, scales=None):
    with torch.no_grad():
        drawn = torch.randn(subspace.d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        subspace.theta_d.copy_(drawn)
        if scales is not None:
            rate = subspace.projection.rate
            subspace.theta_d[-len(scales) :] = (torch.tensor(scales) - 1) / rate
    return subspace


def blobs(n=120):
    X = torch.randn(n, 6, generator=torch.Generator().manual_seed(0))
    y = (X[:, 0] * X[:, 1] > 0).long() + 2 * (X[:, 2] > 0).long()
    return Task(X[:80], y[:80], X[80:], y[80:], "classification", 4)


# identities


@pytest.mark.parametrize("kind", KINDS)
def test_with_factors_one_it_is_the_plain_subspace_of_d_minus_m(kind):
    plain = moved(SubspaceModule(net(), 9, projection=kind, seed=3))
    said = SubspaceModule(net(), 9 + M, said="tensor", projection=kind, seed=3)
    with torch.no_grad():
        said.theta_d[:9] = plain.theta_d
    assert torch.equal(said.theta(), plain.theta())
    x = torch.randn(5, 6)
    for module in (plain, said):
        module(x).square().sum().backward()
    torch.testing.assert_close(said.theta_d.grad[:9], plain.theta_d.grad)


@pytest.mark.trains
def test_training_with_frozen_factors_is_training_of_v_alone():
    plain, said = SubspaceModule(net(), 9, seed=3), SubspaceModule(net(), 9 + M, said="tensor", seed=3)
    said.theta_d.register_hook(lambda g: torch.cat([g[:9], torch.zeros(M)]))
    first, second = (fit(m, blobs(), Recipe(epochs=3, batch_size=16), lr=0.1) for m in (plain, said))
    torch.testing.assert_close(said.theta_d[:9], plain.theta_d, rtol=1e-4, atol=1e-5)
    assert second.loss == pytest.approx(first.loss, rel=1e-4)
    assert set(said.layer_scales_.values()) == {1.0}


def test_at_the_start_it_is_the_base_network_and_v_moves_first():
    said, x = SubspaceModule(net(), 12, said="tensor"), torch.randn(3, 6)
    assert torch.equal(said(x), net()(x))
    said(x).square().sum().backward()
    assert float(said.theta_d.grad[:-M].abs().min()) > 0
    assert torch.equal(said.theta_d.grad[-M:], torch.zeros(M))


def test_weights_are_scaled_tensor_by_tensor():
    factors = [2.0, -1.0, 0.5, 0.0]
    said = moved(SubspaceModule(net(), 12, said="tensor", seed=5), scales=factors)
    P = make_projection("cyclic", 114, 8, seed=5)
    moves = P(said.theta_d[:8].detach()).split(said.spec.sizes)
    wanted = said.theta0 + torch.cat([f * move for f, move in zip(factors, moves)])
    torch.testing.assert_close(said.theta().detach(), wanted)
    assert said.layer_scales_ == pytest.approx(dict(zip(said.spec.names, factors)))


@pytest.mark.parametrize("kind", ["cyclic", "countsketch", "dense", "fastfood"])
def test_gradients_are_the_formulas_and_the_differences(kind):
    said = moved(SubspaceModule(net().double(), 12, said="tensor", projection=kind, said_lr=0.7))
    x = torch.randn(7, 6, dtype=torch.float64)

    def loss(theta_d):
        return torch.func.functional_call(said, {"theta_d": theta_d}, (x,)).square().sum()

    assert torch.autograd.gradcheck(loss, (said.theta_d,), atol=1e-6)
    weights = said.theta().detach().requires_grad_()
    (g,) = torch.autograd.grad(said.spec.call(net().double(), weights, (x,)).square().sum(), weights)
    (found,) = torch.autograd.grad(loss(said.theta_d), said.theta_d)
    P, v = said.projection.projection, said.theta_d[:-M].detach()
    by_formula = [part @ move for part, move in zip(g.split(said.spec.sizes), P(v).split(said.spec.sizes))]
    torch.testing.assert_close(found[-M:], 0.7 * torch.stack(by_formula))
    factors = torch.tensor(list(said.layer_scales_.values()), dtype=torch.float64)
    scaled = torch.cat([f * part for f, part in zip(factors, g.split(said.spec.sizes))])
    torch.testing.assert_close(found[:-M], P.adjoint(scaled))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(0, 2**31 - 1))
def test_batches_and_vmap_agree_with_one_at_a_time(batch, seed):
    said = SubspaceModule(net(), 11, said="layer")
    x = torch.randn(batch, 11, generator=torch.Generator().manual_seed(seed))
    rows = torch.stack([said.projection(row) for row in x])
    torch.testing.assert_close(said.projection(x), rows)
    torch.testing.assert_close(torch.func.vmap(said.projection)(x), rows)
    torch.testing.assert_close(said.subspace().vector(x), said.theta0 + rows)


def test_one_map_a_tensor_has_unit_columns_for_each():
    said = SubspaceModule(net(), 9 + M, said="tensor", per_tensor=True, seed=1)
    for part in said.projection.projection(torch.eye(9)).split(said.spec.sizes, dim=1):
        torch.testing.assert_close(part.norm(dim=1), torch.ones(9))
    factors = [3.0, 1.0, 1.0, 0.25]
    moved(said, scales=factors)
    columns = said.projection(torch.cat([torch.eye(9), said.theta_d[-M:].detach().expand(9, M)], 1))
    for factor, part in zip(factors, columns.split(said.spec.sizes, dim=1)):
        torch.testing.assert_close(part.norm(dim=1), torch.full((9,), factor))


# what is counted, and how it is grouped


def test_exactly_d_numbers_are_trained():
    said = SubspaceModule(net(), 12, said="tensor")
    assert (said.n_trainable, said.d, said.projection.m, said.projection.projection.d) == (12, 12, M, 8)
    assert said.lr_factor == pytest.approx(math.sqrt(114 / 8))
    assert [group["lr"] for group in said.param_groups(1.0)] == [said.lr_factor]
    assert SubspaceModule(net(), 8).layer_scales_ == {}
    direct = SubspaceModule(net(), 12, said="tensor", train_directly=["2"])
    assert (direct.projection.m, direct.n_trainable) == (2, 12 + 44)


def test_groups_by_tensor_layer_and_function():
    names = [
        "bert.embeddings.word.weight",
        "bert.encoder.layer.0.attention.query.weight",
        "bert.encoder.layer.0.output.dense.bias",
        "bert.encoder.layer.11.output.dense.bias",
        "head.weight",
        "head.bias",
        "gain",
    ]
    layers = group_tensors("layer", names)
    first = "bert.encoder.layer."
    assert layers == ("bert.embeddings.word", first + "0", first + "0", first + "11", "head", "head", "gain")
    assert group_tensors("tensor", names) == group_tensors(True, names) == tuple(names)
    assert set(group_tensors(lambda name: "bias" if name.endswith("bias") else "rest", names)) == {
        "bias",
        "rest",
    }
    assert SubspaceModule(net(), 12, said="layer").projection.groups == ("0", "2")
    with pytest.raises(ValueError, match="said must be one of 'tensor', 'layer'"):
        SubspaceModule(net(), 12, said="block")


@pytest.mark.parametrize(("said", "m"), [("tensor", 4), ("layer", 2), (lambda name: "all", 1)])
def test_too_small_a_d_names_m(said, m):
    with pytest.raises(ValueError, match=f"need d > m: m={m} "):
        SubspaceModule(net(), m, said=said)
    assert SubspaceModule(net(), m + 1, said=said).n_trainable == m + 1


def test_the_factors_rate_is_a_share_of_that_of_v_under_adam():
    x, task = torch.randn(8, 6), blobs()
    for share in (1.0, 0.1):
        said = moved(SubspaceModule(net(), 12, said="tensor", said_lr=share))
        before, start = torch.tensor(list(said.layer_scales_.values())), said.theta_d.detach().clone()
        optimizer = torch.optim.Adam(said.param_groups(1e-3), eps=1e-30)
        task.loss(said(x), torch.zeros(8, dtype=torch.long)).backward()
        optimizer.step()
        after = torch.tensor(list(said.layer_scales_.values()))
        of_v = (said.theta_d.detach() - start)[:-M].abs().max()
        torch.testing.assert_close((after - before).abs().max(), share * of_v, rtol=1e-3, atol=0)


# state, moves, compilation, precision


def test_state_is_d_numbers_and_refuses_another_grouping():
    said, x = moved(SubspaceModule(net(), 12, said="tensor")), torch.randn(3, 6)
    buffer = io.BytesIO()
    torch.save(said.state_dict(), buffer)
    buffer.seek(0)
    again = SubspaceModule(net(), 12, said="tensor")
    again.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(again(x), said(x))
    assert again.theta_d.numel() == 12
    for other in ({"said": "layer"}, {"said": "tensor", "said_lr": 0.5}, {}):
        with pytest.raises(ValueError, match=r"has said=|fingerprint|has d="):
            SubspaceModule(net(), 12, **other).load_state_dict(said.state_dict())


def test_moving_the_origin_restarts_the_factors():
    said, x = moved(SubspaceModule(net(), 12, said="tensor")), torch.randn(3, 6)
    before, directions = said(x).detach(), said.projection.projection.matrix()
    said.move_origin()
    torch.testing.assert_close(said(x), before)
    assert set(said.layer_scales_.values()) == {1.0}
    assert not torch.equal(said.projection.projection.matrix(), directions)
    plain = moved(said).materialize()
    torch.testing.assert_close(plain(x), said(x))


def test_given_directions_can_be_scaled_but_not_redrawn():
    points = [flat_spec(net()).flatten(net(seed)) for seed in range(6)]
    said = SubspaceModule.from_trajectory(net(), points, 3)
    basis = said.projection
    scaled = SubspaceModule(net(), 3 + M, said="tensor", projection=basis)
    assert scaled.n_trainable == 7
    with pytest.raises(ValueError, match="cannot be drawn anew"):
        scaled.move_origin()


def test_rounded_coordinates_train_through_the_factors():
    said = moved(SubspaceModule(net(), 12, said="tensor"))
    rounded = QuantizedSubspace(said, said.theta_d.detach().unique().numpy())
    torch.testing.assert_close(rounded(torch.ones(2, 6)), said(torch.ones(2, 6)))
    rounded(torch.ones(2, 6)).sum().backward()
    assert rounded.subspace.theta_d.grad.abs().sum() > 0


def test_autocast_and_low_precision_bases_keep_the_numbers_in_single_precision():
    said = moved(SubspaceModule(net(), 12, said="tensor"))
    expected = said.theta().detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(said.theta(), expected)
    half = SubspaceModule(net().bfloat16(), 12, said="tensor")
    assert (half.theta_d.dtype, half.theta().dtype) == (torch.float32, torch.bfloat16)
    x = torch.randn(2, 6).bfloat16()
    assert torch.equal(half(x), net().bfloat16()(x))
    half(x).sum().backward()
    assert half.theta_d.grad.dtype == torch.float32
    with torch.no_grad():
        half.theta_d.copy_(said.theta_d)
    exact = half.theta0.float() + half.projection(half.theta_d)
    assert torch.equal(half.theta(), exact.bfloat16())  # one rounding, of the sum


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_gives_the_same_function_and_gradient():
    code = """
import torch
from lodim.landscape import SubspaceModule
from lodim.nets import mlp
said, x = SubspaceModule(mlp([6, 10, 4]), 12, said="tensor"), torch.randn(4, 6)
with torch.no_grad():
    said.theta_d.copy_(torch.randn(12))
compiled = torch.compile(said, fullgraph=True)
torch.testing.assert_close(compiled(x), said(x), rtol=1e-5, atol=1e-5)
compiled(x).square().sum().backward()
found, said.theta_d.grad = said.theta_d.grad, None
said(x).square().sum().backward()
torch.testing.assert_close(found, said.theta_d.grad, rtol=1e-4, atol=1e-4)
"""
    # in a process of its own: the run-time type checks of the tests are not made to be traced
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_ranks_of_a_distributed_run_agree(tmp_path):
    code = f"""
import sys, torch, torch.distributed as dist
from lodim.landscape import SubspaceModule
from lodim.nets import mlp
from lodim.randomness import build_seeded
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://{tmp_path}/meet", rank=rank, world_size=2)
X = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
def make():
    return SubspaceModule(build_seeded(lambda: mlp([6, 10, 4]), 0), 12, said="tensor", seed=1)
alone, both = make(), make()
wrapped = torch.nn.parallel.DistributedDataParallel(both, broadcast_buffers=False)
for module, rows in ((alone, X), (wrapped, X[4 * rank : 4 * rank + 4])):
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        module(rows).square().mean().backward()
        optimizer.step()
torch.testing.assert_close(both.theta_d, alone.theta_d, rtol=1e-4, atol=1e-5)
dist.destroy_process_group()
"""
    here = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    loopback = {"GLOO_SOCKET_IFNAME": here} if here else {}  # the name of this machine may lead nowhere
    env = {**os.environ, **loopback}
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(rank)], stderr=subprocess.PIPE, env=env)
        for rank in (0, 1)
    ]
    ends = [(run.communicate(timeout=300)[1].decode(), run.returncode) for run in runs]
    assert [code for _, code in ends] == [0, 0], ends


def test_quantised_weights_are_refused():
    base = net()
    base[0].weight = nn.Parameter(torch.zeros(10, 6, dtype=torch.int8), requires_grad=False)
    with pytest.raises(TypeError, match="dequantise the model first"):
        SubspaceModule(base, 5)
    adapters = SubspaceModule(base, 5, params=lambda name, p: name.startswith("2"))
    assert adapters.D == 44


# in the search


def measured(**options):
    fixed = {
        "task": blobs(), "recipe": Recipe(epochs=3, batch_size=40), "lr": 3e-2, "lr_grid": (3.0,), "n_seeds": 1,
        "search": [6, 12, 24], "said": "tensor",
    }  # fmt: skip
    return LandscapeDimension(net, **{**fixed, **options}).fit()


@pytest.mark.trains
def test_the_search_counts_the_factors_and_both_ways_of_training_agree():
    one, many = (measured(vectorize=flag) for flag in (False, True))
    assert [r.d for r in one.curve_] == [6, 12, 24]
    for a, b in zip(one.curve_, many.curve_, strict=True):
        assert (a.d, a.seed, a.lr) == (b.d, b.seed, b.lr)
        assert a.score == pytest.approx(b.score, abs=0.03)
        assert a.lr == pytest.approx(0.09 * math.sqrt(114 / (a.d - M)))
    model = many.model_at(12)
    assert (model.n_trainable, model.projection.m) == (12, M)
    assert fit_score(model) == pytest.approx(max(r.score for r in many.curve_ if r.d == 12))
    assert [r.score for r in one.direct_] == list(one.result_.baseline_scores)


def fit_score(model):
    task = blobs()
    return float(task.score(model.eval()(task.X_val).detach(), task.y_val))


@pytest.mark.trains
def test_a_head_trained_directly_is_counted_and_kept():
    found = measured(said=None, train_directly=["2"], search=[46, 50])
    assert [r.d for r in found.curve_] == [46, 50]
    model = found.model_at(50)
    assert (model.n_trainable, model.d) == (50, 6)
    assert fit_score(model) == pytest.approx(max(r.score for r in found.curve_ if r.d == 50))
    with pytest.raises(ValueError, match="outside the subspace"):
        measured(said=None, train_directly=["2"], search=[46], vectorize=True)


def test_searches_below_the_fixed_numbers_name_them():
    with pytest.raises(ValueError, match="d=4 leaves no direction: m=4"):
        measured(search=[4, 12])
    with pytest.raises(ValueError, match="at least 5"):
        measured(search="bracket", d_min=3)
    assert min(r.d for r in measured(search="bracket", d0=1, resolution=3, baseline=0.2).curve_) == 5


def test_a_direct_head_has_the_direct_rate():
    task, recipe = blobs(), Recipe(epochs=1, batch_size=80, schedule="constant")
    module = SubspaceModule(net(), 8, train_directly=["2.bias"])
    before = module.module[2].bias.detach().clone()
    fit(module, task, recipe, lr=0.01 * module.lr_factor)
    torch.testing.assert_close(
        (module.module[2].bias - before).abs().max(), torch.tensor(0.01), rtol=1e-3, atol=0
    )
    assert float(module.theta_d.detach().abs().max()) == pytest.approx(0.01 * module.lr_factor, rel=1e-3)


@pytest.mark.trains
def test_a_trivial_answer_that_reaches_the_threshold_is_said():
    rng = torch.Generator().manual_seed(1)
    X = torch.randn(200, 6, generator=rng)
    y = (torch.rand(200, generator=rng) > 0.93).long()
    y[150:] = (torch.arange(50) % 12 == 0).long()
    task = Task(X[:150], y[:150], X[150:], y[150:], "classification", 2)
    with pytest.warns(UserWarning, match="majority class scores 0.9"):
        plain = measured(task=task, said=None, search=[20])
    floored = measured(task=task, said=None, search=[20], score_floor="majority", baseline=1.0)
    trivial = float((task.y_val == 0).double().mean())
    assert floored.threshold_score_ == pytest.approx(trivial + 0.9 * (1 - trivial))
    assert any("majority" in note for note in plain.result_.notes)
    assert not any("majority" in note for note in floored.result_.notes)
    with pytest.raises(ValueError, match="number or 'majority'"):
        measured(score_floor="most")
    with pytest.raises(ValueError, match="needs a classification"):
        LandscapeDimension(net, lambda *a, **k: 1, lambda *a: 1.0, score_floor="majority").fit(0, 0)


def test_groups_of_the_map_are_named_in_order():
    spec = flat_spec(net())
    said = StructureAware(make_projection("cyclic", spec.numel, 5), spec, lambda name: name[-4:], 1.0)
    assert (said.groups, said.owner, said.d) == (("ight", "bias"), (0, 1, 0, 1), 7)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["cyclic", "countsketch"]),
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
    st.integers(1, 12),
    st.sampled_from(["column", "row"]),
)
def test_adjoints_of_parts_are_those_of_the_rows(kind, sizes, d, scale):
    D = sum(sizes) + d
    sizes = [*sizes, d]
    P = make_projection(kind, D, d, seed=1, scale=scale, dtype=torch.float64)
    g = torch.randn(D, dtype=torch.float64)
    blocks = zip(P.matrix().split(sizes), g.split(sizes))
    torch.testing.assert_close(
        P.adjoint_parts(g.split(sizes)), torch.stack([rows.T @ part for rows, part in blocks])
    )
    torch.testing.assert_close(P.adjoint_parts(g.split(sizes)).sum(0), P.adjoint(g))
    v = torch.randn(d, dtype=torch.float64)
    torch.testing.assert_close(P.add_to(g, v), g + P.matrix() @ v)
