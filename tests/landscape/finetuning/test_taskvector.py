"""Tasks as files on a shared base: put on, taken off bit for bit, refused elsewhere."""

import copy
import gc
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lodim.landscape import SubspaceModule, TaskVector
from lodim.landscape.finetuning import taskvector
from lodim.nets import mlp
from lodim.randomness import build_seeded, torch_generator
from lodim.sketch import KINDS


def base(seed=0):
    return build_seeded(lambda: mlp([6, 10, 4]), seed)


def trained(model=None, seed=0, d=12, **options):
    subspace = SubspaceModule(copy.deepcopy(model or base()), d, seed=seed, **options)
    with torch.no_grad():
        subspace.theta_d.copy_(torch.randn(subspace.d, generator=torch.Generator().manual_seed(seed)))
    return subspace


def bits(model):
    return {name: t.detach().clone() for name, t in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("said", [None, "tensor"])
def test_on_the_base_it_is_the_trained_model(kind, said):
    subspace, model, x = trained(projection=kind, said=said), base(), torch.randn(5, 6)
    vector, before = TaskVector.from_subspace(subspace), bits(base())
    assert vector.apply(model) is model
    assert torch.equal(model(x), subspace.materialize()(x))
    assert vector.remove(model) is model
    assert same(bits(model), before)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31 - 1), st.floats(1e-6, 1e6))
def test_taking_off_restores_every_bit_at_any_size(seed, size):
    subspace, model = trained(seed=seed), base(seed)
    subspace = trained(model, seed)
    with torch.no_grad():
        subspace.theta_d.mul_(size)
    vector, before = TaskVector.from_subspace(subspace), bits(model)
    vector.remove(vector.apply(model))
    assert same(bits(model), before)


def test_many_tasks_take_turns_on_one_base():
    model, x = base(), torch.randn(5, 6)
    subspaces = [trained(seed=s, said="layer" if s % 2 else None) for s in range(4)]
    vectors, before = [TaskVector.from_subspace(s) for s in subspaces], bits(model)
    for _ in range(2):
        for subspace, vector in zip(subspaces, vectors):
            with vector.on(model) as on:
                assert torch.equal(on(x), subspace.materialize()(x))
            assert same(bits(model), before)


def test_files_give_the_same_task(tmp_path):
    for options in ({}, {"said": "layer"}, {"train_directly": ["2"]}, {"projection": "sparse_embedding"}):
        subspace, x = trained(**options), torch.randn(5, 6)
        vector = TaskVector.from_subspace(subspace)
        size = vector.save(tmp_path / "task")
        again, model = TaskVector.load(tmp_path / "task"), base()
        assert size == vector.n_bytes == (tmp_path / "task").stat().st_size == again.n_bytes
        assert torch.equal(again.apply(model)(x), subspace.materialize()(x))
        assert again.layer_scales_ == pytest.approx(subspace.layer_scales_)
    with pytest.raises(ValueError, match="no task vector"):
        TaskVector.from_bytes(b"something else")
    with pytest.raises(ValueError, match="no task vector"):
        TaskVector.from_bytes(vector.to_bytes()[:200])
    changed = bytearray(vector.to_bytes())
    changed[-60] ^= 1
    (tmp_path / "task").write_bytes(changed)
    with pytest.raises(ValueError, match="task is damaged, or no file of this kind"):
        TaskVector.load(tmp_path / "task")


def test_size_is_that_of_the_numbers_not_of_the_weights():
    vector = TaskVector.from_subspace(trained(d=64))
    assert vector.message_bits == 32 * 64
    wide = build_seeded(lambda: mlp([64, 200, 10]), 0)
    large = TaskVector.from_subspace(SubspaceModule(wide, 64))
    assert abs(large.n_bytes - vector.n_bytes) < 400  # of which zeros pack away
    assert "64 numbers (single precision) that move 114 weights" in str(vector)


def test_a_new_head_and_running_statistics_travel_along():
    def network(seed):
        return build_seeded(lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)), seed)

    subspace = SubspaceModule(network(0), 9, train_directly=["2"])
    x = torch.randn(30, 6) + 2
    subspace(x)
    with torch.no_grad():
        subspace.theta_d.normal_()
        subspace.module[2].weight.add_(1.0)
    vector, model = TaskVector.from_subspace(subspace), network(0)
    before = bits(model)
    assert set(vector.outside) == {
        "2.weight",
        "2.bias",
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    }
    with vector.on(model):
        assert torch.equal(model.eval()(x), subspace.eval().materialize()(x))
    assert same(bits(model), before)
    assert vector.message_bits == 32 * (9 + 12 + 10) + 64


def test_rounding_costs_little_and_certifies():
    subspace = trained(d=64, said="tensor")
    vector = TaskVector.from_subspace(subspace)
    short = vector.rounded(16)
    assert short.message_bits < vector.message_bits / 2
    assert np.abs(short.numbers - vector.numbers).max() < 0.5
    assert np.unique(short.numbers).size <= 16
    again = TaskVector.from_bytes(short.to_bytes())
    np.testing.assert_array_equal(again.numbers, short.numbers)
    assert again.n_bytes < vector.n_bytes
    assert "16 levels" in str(short)
    few, many = (short.bound(0.05, n) for n in (2_000, 200_000))
    assert 0.05 < many < few < vector.bound(0.05, 2_000) <= 1


def test_wrong_places_are_refused():
    vector, model = TaskVector.from_subspace(trained()), base()
    with pytest.raises(ValueError, match="not those this task vector was trained on"):
        vector.apply(base(1))
    with pytest.raises(ValueError, match="not those this task vector was trained on"):
        vector.apply(base().bfloat16())
    with pytest.raises(ValueError, match="other shapes"):
        vector.apply(mlp([6, 11, 4]))
    with pytest.raises(ValueError, match=r"has no '2\.bias'"):
        vector.apply(nn.Sequential(nn.Linear(6, 10)))
    int8 = base()
    int8[0].weight = nn.Parameter(torch.zeros(10, 6, dtype=torch.int8), requires_grad=False)
    with pytest.raises(TypeError, match="dequantise"):
        vector.apply(int8)
    with pytest.raises(ValueError, match="no task vector is on this model"):
        vector.remove(model)
    vector.apply(model)
    with pytest.raises(ValueError, match="this task vector is on this model already"):
        vector.apply(model)
    other = TaskVector.from_subspace(trained(seed=5))
    for action in (other.apply, other.remove):
        with pytest.raises(ValueError, match="another task vector is on this model"):
            action(model)


def test_a_moved_origin_is_another_base():
    subspace = trained().move_origin()
    vector = TaskVector.from_subspace(subspace)
    with pytest.raises(ValueError, match="not those this task vector"):
        vector.apply(base())


def test_given_directions_have_no_seed():
    points = [torch.randn(114) for _ in range(4)]
    with pytest.raises(ValueError, match="made again from their seed"):
        TaskVector.from_subspace(SubspaceModule.from_trajectory(base(), points, 2))


def test_a_model_that_is_gone_leaves_nothing_behind():
    vector, model = TaskVector.from_subspace(trained()), base()
    count = len(taskvector._APPLIED)
    vector.apply(model)
    assert len(taskvector._APPLIED) == count + 1
    del model
    gc.collect()
    assert len(taskvector._APPLIED) <= count


def test_double_precision_is_kept(tmp_path):
    base = build_seeded(lambda: mlp([6, 8, 3]), 0).double()
    subspace = SubspaceModule(copy.deepcopy(base), 9)
    with torch.no_grad():
        subspace.theta_d.normal_(generator=torch_generator(0))
    vector = TaskVector.from_subspace(subspace)
    vector.save(tmp_path / "task.npz")
    again = TaskVector.load(tmp_path / "task.npz")
    assert vector.numbers.dtype == again.numbers.dtype == np.float64
    assert vector.message_bits == 64 * 9
    assert "double precision" in str(vector)
    wanted = subspace.theta().detach()
    with again.on(base):
        assert torch.equal(nn.utils.parameters_to_vector(base.parameters()), wanted)


@pytest.mark.parametrize("n_outputs", [1, 5])
def test_another_head_is_refused_before_anything_changes(n_outputs):
    vector, other = TaskVector.from_subspace(trained(train_directly=["2"])), base()
    other[2] = nn.Linear(10, n_outputs)
    before = bits(other)
    with pytest.raises(ValueError, match="give it the head"):
        vector.apply(other)
    assert same(bits(other), before)
    with pytest.raises(ValueError, match="no task vector is on"):
        vector.remove(other)


@pytest.mark.parametrize("header", [b"{}", b"[]", b'{"D": 3}'])
def test_archives_of_other_programs_are_refused(header):
    buffer = io.BytesIO()
    np.savez(buffer, header=np.frombuffer(header, np.uint8), numbers=np.ones(3))
    with pytest.raises(ValueError, match="no task vector of lodim"):
        TaskVector.from_bytes(buffer.getvalue())


def test_numbers_in_half_precision_travel():
    halved = trained().to(torch.bfloat16)
    vector = TaskVector.from_bytes(TaskVector.from_subspace(halved).to_bytes())
    np.testing.assert_array_equal(vector.numbers, halved.theta_d.detach().float().numpy())
