"""Compressed models: exact round trips, honest lengths, and refusals where the seeds no longer tell the truth."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from lodim.landscape.code_lengths import arithmetic_code_length, prefix_free_bits
from lodim.landscape.objective_landscapes.bounds import compression_bound
from lodim.landscape.objective_landscapes.compression import CompressedModel
from lodim.landscape.objective_landscapes.module import SubspaceModule
from lodim.nets import mlp
from lodim.randomness import build_seeded
from lodim.sketch import KINDS

SEED = 7
X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))


def make_mlp():
    return mlp([6, 16, 3])


def make_batch_norm():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def trained(make_model=make_mlp, d=30, seed=SEED, **options):
    """A subspace module some way from its origin, batch statistics included."""
    subspace = SubspaceModule(build_seeded(make_model, seed), d=d, seed=3, **options)
    with torch.no_grad():
        subspace.theta_d.copy_(torch.randn(d, generator=torch.Generator().manual_seed(5)))
        subspace.train()
        subspace(X)
    return subspace.eval()


def compressed(subspace=None, make_model=make_mlp, **options):
    return CompressedModel.from_subspace(subspace or trained(), make_model, SEED, **options)


@pytest.mark.parametrize(
    "options", [{"n_levels": 5}, {"n_levels": None}, {"n_levels": None, "dtype": "float16"}]
)
@pytest.mark.parametrize("make_model", [make_mlp, make_batch_norm])
def test_files_load_to_identical_logits(tmp_path, make_model, options):
    model = compressed(trained(make_model), make_model, architecture={"net": "small"}, **options)
    size = model.save(tmp_path / "model.bin")
    assert size == model.n_bytes == (tmp_path / "model.bin").stat().st_size
    loaded = CompressedModel.load(tmp_path / "model.bin", make_model)
    assert torch.equal(loaded.to_module()(X), model.to_module()(X))
    np.testing.assert_array_equal(loaded.theta_d, model.theta_d)
    assert loaded.architecture == {"net": "small"}
    assert loaded.to_bytes() == model.to_bytes()


@pytest.mark.parametrize("make_model", [make_mlp, make_batch_norm])
def test_single_precision_coordinates_give_the_trained_network(make_model):
    subspace = trained(make_model)
    exact = compressed(subspace, make_model, n_levels=None)
    torch.testing.assert_close(exact.to_module()(X), subspace(X), rtol=1e-5, atol=1e-5)


def test_tied_weights():
    def make_model():
        model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
        model[2].weight = model[0].weight
        return model

    subspace = trained(make_model, d=20)
    model = compressed(subspace, make_model, n_levels=None)
    assert model.D == 36 + 6 + 6
    assert model.extras == {}
    module = CompressedModel.from_bytes(model.to_bytes(), make_model).to_module()
    assert module[2].weight is module[0].weight
    torch.testing.assert_close(module(X), subspace(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("levels", [None, 5])
def test_other_precisions(dtype, levels):
    def make_model():
        return make_batch_norm().to(dtype)

    subspace = SubspaceModule(build_seeded(make_model, SEED), d=30, seed=3)
    with torch.no_grad():
        subspace.theta_d.copy_(torch.randn(30, generator=torch.Generator().manual_seed(5)))
        subspace(X.to(dtype))
    model = compressed(subspace.eval(), make_model, n_levels=levels)
    loaded = CompressedModel.from_bytes(model.to_bytes(), make_model).to_module()
    assert torch.equal(loaded(X.to(dtype)), model.to_module()(X.to(dtype)))
    assert loaded(X.to(dtype)).dtype == dtype
    if levels is None:
        torch.testing.assert_close(loaded(X.to(dtype)), subspace(X.to(dtype)), rtol=0.05, atol=0.1)


def test_more_levels_come_closer():
    subspace = trained()
    with torch.no_grad():
        gaps = [
            (compressed(subspace, n_levels=levels).to_module()(X) - subspace(X)).abs().mean().item()
            for levels in (2, 6, 30)
        ]
    assert gaps[0] > gaps[1] > gaps[2]


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"dense_orthonormal"}))
def test_every_projection_is_regenerated(kind):
    subspace = trained(projection=kind, scale="row")
    model = CompressedModel.from_bytes(compressed(subspace, n_levels=None).to_bytes(), make_mlp)
    torch.testing.assert_close(model.to_module()(X), subspace(X), rtol=1e-4, atol=1e-4)


def test_message_length_is_what_the_file_holds():
    model = compressed(trained(d=100), n_levels=7)
    codes, levels = model.quantized.codes, len(model.quantized.codebook)
    assert model.message_bits == math.ceil(arithmetic_code_length(codes)) + levels * (16 + 7)
    assert model.n_bits == model.message_bits + 64
    assert model.ratio == pytest.approx(32 * model.D / model.n_bits)
    header = model.n_bytes - math.ceil(model.message_bits / 8)
    assert 0 < header < 350
    assert compressed(trained(d=100), n_levels=None).message_bits == 3200
    assert compressed(trained(d=100), n_levels=None, dtype="float16").message_bits == 1600


def test_batch_statistics_are_stored_and_counted():
    model = compressed(trained(make_batch_norm), make_batch_norm, n_levels=4)
    plain = compressed(trained(make_mlp), make_mlp, n_levels=4)
    assert sorted(model.extras) == ["1.num_batches_tracked", "1.running_mean", "1.running_var"]
    assert plain.extras == {}
    coded = model.message_bits - 8 * sum(a.nbytes for a in model.extras.values())
    assert coded == plain.message_bits
    torch.testing.assert_close(
        model.to_module()[1].running_mean, trained(make_batch_norm).module[1].running_mean
    )


def test_the_bound_is_of_the_prefix_free_message():
    model = compressed(n_levels=4)
    expected = compression_bound(
        0.1, prefix_free_bits(model.message_bits), 5000, kind="occam", selection_bits=3
    )
    assert model.bound(0.1, 5000, kind="occam", selection_bits=3) == expected


@pytest.mark.trains
def test_fine_tuning_wins_back_what_rounding_lost():
    subspace, target = trained(), torch.randint(0, 3, (40,), generator=torch.Generator().manual_seed(2))

    def loss_of(module):
        return nn.functional.cross_entropy(module(X), target)

    optimizer = torch.optim.Adam(subspace.parameters(), lr=0.3)
    for _ in range(25):
        optimizer.zero_grad()
        loss_of(subspace).backward()
        optimizer.step()

    def finetune(
        module,
    ):  # the levels alone: their gradient is exact, where that of what is rounded is passed through
        tuner = torch.optim.SGD([module.codebook], lr=0.02)
        for _ in range(25):
            tuner.zero_grad()
            loss_of(module).backward()
            tuner.step()

    before = subspace.theta_d.detach().clone()
    plain = compressed(subspace, n_levels=3)
    tuned = compressed(subspace, n_levels=3, finetune=finetune)
    with torch.no_grad():
        assert loss_of(tuned.to_module()) < loss_of(plain.to_module())
    assert torch.equal(subspace.theta_d, before)
    assert len(tuned.quantized.codebook) <= 3


def test_a_subset_of_the_parameters():
    subspace = trained(params=lambda name, p: name.endswith("weight"))
    model = CompressedModel.from_bytes(compressed(subspace, n_levels=None).to_bytes(), make_mlp)
    assert model.parameters == ("0.weight", "2.weight")
    assert compressed().parameters is None
    torch.testing.assert_close(model.to_module()(X), subspace(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("position", [0, 9, 40, -60, -10, -1])
def test_damage_is_noticed(position):
    data = bytearray(compressed().to_bytes())
    data[position] ^= 4
    with pytest.raises(ValueError, match=r"damaged|no compressed"):
        CompressedModel.from_bytes(bytes(data), make_mlp)


@pytest.mark.parametrize("kept", [0, 5, 12, 100, -1])
def test_cuts_are_noticed(kept):
    with pytest.raises(ValueError, match=r"damaged|no compressed"):
        CompressedModel.from_bytes(compressed().to_bytes()[:kept], make_mlp)


def test_another_architecture_is_refused(tmp_path):
    compressed(architecture="6-16-3").save(tmp_path / "model.bin")
    for other in (lambda: mlp([6, 17, 3]), lambda: mlp([6, 16, 16, 3]), make_batch_norm):
        with pytest.raises(ValueError, match="another architecture"):
            CompressedModel.load(tmp_path / "model.bin", other)
    with pytest.raises(ValueError, match="6-16-3"):
        CompressedModel.load(tmp_path / "model.bin", make_batch_norm)


def test_another_initialiser_is_refused():
    def shrunk():
        model = make_mlp()
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(0.9)
        return model

    with pytest.raises(ValueError, match="other weights"):
        CompressedModel.from_bytes(compressed().to_bytes(), shrunk).to_module()
    with pytest.raises(ValueError, match="other weights"):
        dataclasses.replace(compressed(), theta0_seed=SEED + 1).to_module()


def test_an_origin_that_no_seed_gives_is_refused():
    with pytest.raises(ValueError, match="does not give the origin"):
        CompressedModel.from_subspace(trained(), make_mlp, SEED + 1)
    with pytest.raises(ValueError, match="another architecture"):
        CompressedModel.from_subspace(trained(), lambda: mlp([6, 17, 3]), SEED)


def test_directions_that_no_seed_gives_are_refused():
    subspace = trained()
    subspace.projection = nn.Linear(30, 163, bias=False)
    with pytest.raises(ValueError, match="made again from their seed, not a Linear"):
        compressed(subspace)


def test_directly_trained_parameters_are_stored_and_counted():
    subspace = trained(train_directly=["4"], make_model=lambda: mlp([6, 16, 16, 3]))
    with torch.no_grad():
        subspace.module[4].weight.add_(0.5)
    model = compressed(subspace, lambda: mlp([6, 16, 16, 3]), n_levels=None)
    assert list(model.extras) == ["4.weight"]
    assert model.message_bits == 32 * (30 + 48)
    torch.testing.assert_close(model.to_module()(X), subspace(X), rtol=1e-5, atol=1e-5)


def test_coordinates_that_do_not_fit_are_refused():
    subspace = trained()
    with torch.no_grad():
        subspace.theta_d[0] = 1e6
    with pytest.raises(ValueError, match="65504"):
        compressed(subspace)
    with pytest.raises(ValueError, match="float16"):
        compressed(subspace, n_levels=None, dtype="float16")
    with pytest.raises(ValueError, match="dtype"):
        compressed(n_levels=None, dtype="float8")


def test_it_says_what_it_is():
    text = str(compressed(n_levels=4))
    assert "163 weights from 30 numbers (4 levels)" in text


def test_what_would_be_ignored_or_could_not_be_written_is_refused():
    with pytest.raises(ValueError, match="give n_levels"):
        compressed(n_levels=None, finetune=lambda rounded: None)
    with pytest.raises(TypeError, match="architecture must be JSON data"):
        compressed(architecture={"sizes": np.ones(3)})
    with pytest.raises(ValueError, match="TaskVector keeps"):
        compressed(trained(said="layer"))


@pytest.mark.parametrize("value", [float("nan"), 1e6])
@pytest.mark.parametrize("where", ["codebook", "theta_d"])
def test_fine_tuning_that_diverged_is_not_rounded_over(value, where):
    def finetune(rounded):
        with torch.no_grad():
            numbers = rounded.codebook if where == "codebook" else rounded.subspace.theta_d
            numbers.fill_(value if where == "codebook" else float("nan"))

    with pytest.raises(ValueError, match="NaN or infinite"):
        compressed(n_levels=4, finetune=finetune)


def test_a_maker_that_returns_the_trained_module_is_refused():
    subspace = trained()
    with pytest.raises(ValueError, match="same weights again"):
        compressed(subspace, lambda: subspace.module)
