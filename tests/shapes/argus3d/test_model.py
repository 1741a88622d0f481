"""Both stages: what is trained on what, shapes by class, by part, and by what others know of them."""

import dataclasses

import numpy as np
import pytest
import torch

from lodim.datasets.solids import FAMILIES, procedural_solids
from lodim.shapes.argus3d import Argus3D, ShapeGPT, ShapeTokenizer, shape_set
from lodim.shapes.argus3d.model import cut_points

pytest.importorskip("trimesh")

SIZES = {"plane_resolution": 16, "channels": 8, "n_codes": 32, "unet_width": 8, "latent_channels": 16}


@pytest.fixture(scope="module")
def shapes():
    return shape_set(procedural_solids(24, random_state=0), n_points=256, n_queries=256, random_state=0)


def model(seed=0, **options):
    tokenizer = ShapeTokenizer(**SIZES, random_state=seed)
    options = {"n_classes": 8, "dropout": 0.0, **options}
    return Argus3D(tokenizer, ShapeGPT(32, tokenizer.n_tokens, 32, 1, 4, random_state=seed, **options))


@pytest.mark.trains
def test_both_stages_learn_and_a_seed_gives_the_same(shapes):
    found = []
    for _ in range(2):
        argus = model()
        first = argus.fit_tokenizer(shapes, steps=20, batch_size=8, random_state=1)
        second = argus.fit_prior(shapes, steps=60, random_state=1)
        assert first.losses[-5:].mean() < first.losses[:5].mean()
        # what codes alone are worth is log 32
        assert second.losses[-10:].mean() < min(second.losses[:10].mean(), np.log(32))
        found.append(
            (argus.state_dict(), argus.prior.sample(2, y=0, generator=torch.Generator().manual_seed(0)))
        )
    (one, tokens), (two, again) = found
    assert all(torch.equal(one[name], two[name]) for name in one if "extra" not in name)
    assert torch.equal(tokens, again)
    assert argus.names == FAMILIES


@pytest.mark.trains
def test_codes_begin_on_data_and_dead_ones_come_back(shapes):
    argus, plain = model(), model()
    argus.fit_tokenizer(shapes, steps=1, batch_size=8)
    plain.fit_tokenizer(shapes, steps=1, batch_size=8, restart_every=0)
    assert argus.code_usage(shapes).perplexity > 2 * plain.code_usage(shapes).perplexity
    quantizer = argus.tokenizer.quantizer
    quantizer.usage[:5] = 0.1
    with torch.no_grad():
        quantizer.weight[:5] = 100.0
    argus.fit_tokenizer(shapes, steps=10, batch_size=8, restart_every=5)
    assert float(quantizer.codebook.detach().max()) < 50
    # a second training goes on with the codes that are there
    before = quantizer.codebook.detach().clone()
    argus.fit_tokenizer(shapes, steps=1, lr=1e-9)
    torch.testing.assert_close(quantizer.codebook.detach(), before, atol=1e-6, rtol=0)


@pytest.mark.trains
def test_a_run_that_was_interrupted_goes_on(shapes, tmp_path):
    whole, halves = model(), model()
    options = {"steps": 12, "batch_size": 8, "restart_every": 4}
    whole.fit_tokenizer(shapes, **options)
    path = tmp_path / "one.pt"
    halves.fit_tokenizer(shapes, **options, checkpoint=path, on_step=lambda run: run.step == 6 and run.stop())
    assert halves.tokenizer_training_.stopped == "callback"
    again = model()
    again.fit_tokenizer(shapes, **options, checkpoint=path)
    for a, b in zip(whole.tokenizer.parameters(), again.tokenizer.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.trains
@pytest.mark.parametrize("condition_dim", [None, 4])
def test_a_part_of_a_shape_is_completed(shapes, condition_dim):
    argus = model(n_classes=0, condition_dim=condition_dim, max_condition_tokens=16)
    argus.fit_prior(shapes[:8], condition="partial", n_partial=2, steps=3)
    part = cut_points(shapes.points[0], 0.5, 0)
    told = argus._told(torch.from_numpy(part).float()[None])
    assert told.shape == ((1, 16) if condition_dim is None else (1, 16, 4))
    meshes = argus.complete(part, 2, resolution=16, threshold=0.01, generator=0)
    again = argus.generate(2, condition=told, resolution=16, threshold=0.01, generator=0)
    assert [len(mesh.faces) for mesh in meshes] == [len(mesh.faces) for mesh in again]
    with pytest.raises(ValueError, match="max_condition_tokens=16"):
        model().complete(part)


@pytest.mark.trains
def test_texts_by_features_of_an_encoder(shapes):
    # two sentences, as an encoder would tell them apart
    sentences = torch.eye(2, 6)
    some = shapes[np.flatnonzero(shapes.labels < 2)]
    argus = model(n_classes=0, condition_dim=6, max_condition_tokens=1)
    told = sentences[torch.from_numpy(some.labels)][:, None]
    argus.fit_prior(some, condition=told, steps=200, lr=3e-3)
    tokens = argus._tokens(some.points)
    argus.eval()
    right, wrong = (
        float(argus.prior.loss(tokens, condition=c).detach()) for c in (told, told.flip(2).roll(2, 2))
    )
    assert right < wrong


def test_reconstruction_is_decoding_the_tokens(shapes):
    argus = model()
    tokens = argus.tokenizer.encode(torch.from_numpy(shapes.points[:3]))
    logits = argus.tokenizer.decode(tokens, torch.from_numpy(shapes.queries[:3]))
    threshold = float(torch.sigmoid(logits.detach()).median())
    inside = (torch.sigmoid(logits.detach()) >= threshold).numpy()
    truth = shapes.occupancy[:3]
    np.testing.assert_allclose(
        argus.iou(shapes[:3], threshold), (inside & truth).sum(1) / (inside | truth).sum(1), atol=0.02
    )
    mesh = argus.reconstruct(shapes.points[0].tolist(), 16, threshold)
    assert len(mesh.faces) == len(argus.tokenizer.to_mesh(tokens[0], 16, threshold).faces)


def test_usage_counts_every_token(shapes):
    usage = model().code_usage(shapes)
    assert usage.counts.sum() == 24 * 16
    assert usage.used == (usage.counts > 0).mean()
    assert 1 <= usage.perplexity <= (usage.counts > 0).sum() + 1e-9


def test_a_part_lies_beyond_a_plane():
    points = np.random.default_rng(0).normal(size=(200, 3))
    part = cut_points(points, 0.3, 1)
    assert len(part) == 60
    direction = np.random.default_rng(1).standard_normal(3)
    rest = points[~(points[:, None] == part).all(2).any(1)]
    assert (part @ direction).max() < (rest @ direction).min()


def test_classes_go_by_name(shapes):
    argus = model()
    argus.names = shapes.names
    assert argus._classes("mug").item() == FAMILIES.index("mug")
    assert argus._classes(["chair", "table"]).tolist() == [1, 0]
    with pytest.raises(ValueError, match="'vase'"):
        argus.generate(1, y="vase")


def test_nothing_as_probable_is_an_empty_mesh_with_a_warning():
    with pytest.warns(UserWarning, match="no faces"):
        meshes = model().generate(1, y=0, resolution=16, threshold=1 - 1e-9, generator=0)
    assert not len(meshes[0].faces)


def test_says_what_is_wrong(shapes):
    with pytest.raises(ValueError, match="n_codes=32 and n_tokens=16"):
        Argus3D(ShapeTokenizer(**SIZES), ShapeGPT(32, 17, 32, 1, 4))
    with pytest.raises(ValueError, match="8 classes"):
        model(n_classes=3).fit_prior(shapes)
    with pytest.raises(ValueError, match="of 24 shapes"):
        model(condition_dim=2, max_condition_tokens=1).fit_prior(shapes, condition=torch.zeros(3, 1, 2))
    with pytest.raises(ValueError, match="partial"):
        model().fit_prior(shapes, condition="half")


def test_a_set_that_is_turned_around_or_read_only_is_a_set(shapes):
    argus = model()
    np.testing.assert_array_equal(argus.iou(shapes[::-1], 0.3), argus.iou(shapes, 0.3)[::-1])
    assert np.array_equal(argus.code_usage(shapes[::-1]).counts, argus.code_usage(shapes).counts)
    assert argus.iou(shapes[:0]).shape == (0,)
    with pytest.raises(ValueError, match="a shape at least"):
        argus.code_usage(shapes[:0])


def test_a_checkpoint_of_the_tokenizer_is_of_its_queries_too(shapes, tmp_path):
    options = {"steps": 4, "batch_size": 8, "checkpoint": tmp_path / "one.pt"}
    model().fit_tokenizer(shapes, **options, on_step=lambda run: run.step == 2 and run.stop())
    other = dataclasses.replace(shapes, occupancy=~shapes.occupancy)
    with pytest.raises(ValueError, match="occupancy"):
        model().fit_tokenizer(other, **options)
    with pytest.raises(ValueError, match="n_queries"):
        model().fit_tokenizer(shapes, n_queries=7, **options)


def test_names_come_in_arrays_and_are_missed(shapes):
    argus = model()
    with pytest.raises(ValueError, match="before fit_prior"):
        argus.generate(1, y="mug")
    argus.names = shapes.names
    for names in (np.array(["chair", "table"]), np.array(["chair", "table"], object)):
        assert argus._classes(names).tolist() == [1, 0]
    with pytest.raises(ValueError, match="got None"):
        argus.generate(2, y=["mug", None])
    with pytest.raises(ValueError, match="n_classes=0"):
        model(n_classes=0).generate(1, y="mug")


def test_conditions_without_numbers_are_refused(shapes):
    argus = model(n_classes=0, condition_dim=2, max_condition_tokens=1)
    with pytest.raises(ValueError, match="48 numbers that are NaN"):
        argus.fit_prior(shapes, condition=torch.full((24, 1, 2), np.nan), batch_size=24, steps=1)
    with pytest.raises(ValueError, match="of 24 shapes"):
        argus.fit_prior(shapes, condition=3, steps=1)
