"""Training on shapes that are known: a slab, a table, boxes of several sizes."""

import time

import numpy as np
import pytest
import torch

from lodim.datasets.solids import procedural_solids
from lodim.nets import mlp
from lodim.shapes import as_mesh, cell_centres, packaged_mesh, to_unit_cube, volume_iou
from lodim.shapes.bsp_net import (
    BSPNet,
    ImplicitNet,
    fit_autoencoder,
    fit_image_encoder,
    fit_shape,
    sample_both_sides,
)

GRID = cell_centres(16)


def box(x, half=(0.3, 0.2, 0.25)):
    return (np.abs(x) <= half[: x.shape[1]]).all(1)


def boxes(n=24):
    halves = np.random.default_rng(0).uniform(0.15, 0.45, (n, 3))
    voxels = np.stack([box(GRID, half).reshape(16, 16, 16) for half in halves])
    return halves, torch.from_numpy(voxels)


def test_points_near_the_boundary_are_as_many_on_either_side():
    x, inside = sample_both_sides(box, 40, near=0.7, random_state=0)
    np.testing.assert_array_equal(inside, box(x))
    assert np.abs(x).max() <= 0.5
    assert len(x) == round(40**3 / 0.3)
    q = np.abs(np.abs(x) - [0.3, 0.2, 0.25]).argmin(1)
    face = (q == 0) & (np.abs(x[:, 1]) < 0.1) & (np.abs(x[:, 2]) < 0.1)  # along one normal, away from edges
    depth = np.abs(x[face, 0]) - 0.3
    close = np.abs(depth) < 0.01
    assert np.abs((depth[close] < 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(close.sum())


def test_distances_are_shapes_too_and_what_has_no_inside_is_none():
    x, inside = sample_both_sides(lambda p: np.linalg.norm(p, axis=1) - 0.3, 20, dim=2, random_state=0)
    np.testing.assert_array_equal(inside, np.linalg.norm(x, axis=1) <= 0.3)
    for answer, what in ((False, "no point inside"), (True, "fills")):
        with pytest.raises(ValueError, match=what):
            fit_shape(lambda p, answer=answer: np.full(len(p), answer), steps=1)
    with pytest.raises(ValueError, match="no point inside"):
        fit_shape(lambda p: box(p - 5.0), steps=1)
    for answer in (lambda p: p > 0, lambda p: box(p).astype(int)):  # 1 for inside would be a distance of 1
        with pytest.raises(ValueError, match="one bool"):
            fit_shape(answer, steps=1)
    with pytest.raises(ValueError, match="cells"):
        fit_shape(box, steps=1, cells=0)
    with pytest.raises(TypeError, match="2-D"):
        fit_shape("shape.obj", dim=2, steps=1)


@pytest.mark.trains
def test_a_rectangle_is_found_with_its_corners():
    net, planes = fit_shape(box, 16, 2, dim=2, steps=600, cells=64, random_state=0)
    x = np.random.default_rng(1).uniform(-0.5, 0.5, (20_000, 2))
    S, _ = net(torch.from_numpy(x).float(), planes)
    found, truth = (S[0] == 0).numpy(), box(x)
    assert (found & truth).sum() / (found | truth).sum() > 0.95
    corner = max(np.abs(p.vertices).max(0).tolist() for p in net.extract(planes).polytopes)
    assert corner == pytest.approx([0.3, 0.2], abs=0.02)


@pytest.mark.trains
def test_level_and_sharpness_mend_the_size():
    """Without them every side is short by half a ramp."""
    volume = []
    for options in ({}, {"shift": 0.0, "sharpness": 1.0}):
        net, planes = fit_shape(box, 24, 1, steps=400, cells=24, random_state=0, **options)
        volume.append(net.extract(planes).polytopes[0].volume)
    truth = 0.6 * 0.4 * 0.5
    assert abs(volume[0] / truth - 1) < 0.05
    assert volume[1] / truth < 0.95


@pytest.mark.trains
@pytest.mark.parametrize("kind", ["solid", "mesh"])
def test_a_solid_and_a_packaged_mesh_become_few_closed_faces(kind, tmp_path):
    pytest.importorskip("manifold3d")
    if kind == "solid":
        shape = procedural_solids(1, ["cross"], random_state=0)[0]
    else:
        try:
            shape = to_unit_cube(packaged_mesh("nut"))[0]
        except ModuleNotFoundError as error:
            pytest.skip(str(error))
    net, planes = fit_shape(shape, 128, 8, steps=600, cells=32, random_state=0)
    mesh = net.to_mesh(planes, prune=True)
    assert mesh.is_watertight
    assert len(mesh.faces) < 600
    assert volume_iou(mesh, shape, n_points=20_000) > 0.8
    for ending in ("obj", "ply", "stl", "glb"):
        net.save_mesh(planes, tmp_path / f"shape.{ending}", prune=True)
        again = as_mesh(tmp_path / f"shape.{ending}")
        assert len(again.faces) == len(mesh.faces)
        assert again.volume == pytest.approx(mesh.volume, rel=1e-4)


def test_a_mesh_may_come_as_a_path_or_as_arrays_that_nobody_may_write_to(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    mesh = trimesh.creation.box((0.6, 0.4, 0.5))
    mesh.export(tmp_path / "box.ply")
    arrays = np.array(mesh.vertices), np.array(mesh.faces)
    for part in arrays:
        part.flags.writeable = False
    answers = [
        sample_both_sides(shape, 12, random_state=0)[1] for shape in (mesh, tmp_path / "box.ply", arrays, box)
    ]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])
    mesh.apply_scale(10)
    with pytest.raises(ValueError, match="beyond the cube"):
        fit_shape(mesh, steps=1)


@pytest.mark.trains
def test_a_seed_is_a_run_and_a_deadline_ends_it():
    a, b = (fit_shape(box, 16, 2, steps=20, cells=16, random_state=3)[1] for _ in range(2))
    assert torch.equal(a, b)
    net, planes = fit_shape(
        box, 16, 2, steps=10**6, cells=16, deadline=time.monotonic() + 0.2, random_state=0
    )
    assert net.training_.stopped == "deadline"
    assert bool(planes.isfinite().all())


@pytest.mark.trains
def test_phases_one_after_another():
    seen = []
    options = {"init": "phases", "steps": 40, "cells": 16, "random_state": 0}
    net, planes = fit_shape(box, 16, 2, on_step=lambda run: seen.append(run.step), **options)
    assert net.phase == 3
    assert net.connections == "learned"
    assert len(seen) == 40
    assert planes.shape == (1, 4, 16)
    net, _ = fit_shape(box, 16, 2, on_step=lambda run: run.stop(), **options)
    assert net.phase == 0  # who ends the first does not want the next
    assert net.training_.stopped == "callback"


@pytest.mark.trains
def test_an_auto_encoder_learns_sizes():
    halves, voxels = boxes()
    points, inside = map(
        np.stack,
        zip(*[sample_both_sides(lambda x, h=h: box(x, h), 12, random_state=0) for h in halves], strict=True),
    )
    options = {"resolution": 16, "width": 8, "random_state": 0}
    net = BSPNet(24, 2, code_dim=32, phase=1, shift=0.5, connections="private", hidden=(64,), **options)
    assert (
        fit_autoencoder(net, voxels, points, inside, stages=[(1, None, 300)], lr=3e-3, sharpness=2.0).stopped
        == "budget"
    )
    x = torch.from_numpy(np.random.default_rng(1).uniform(-0.5, 0.5, (4000, 3))).float()
    with torch.no_grad():
        S, _ = net(x, net.planes(voxels))
    truth = np.stack([box(x.numpy(), half) for half in halves])
    found = (S == 0).numpy()
    assert np.mean((found & truth).sum(1) / (found | truth).sum(1)) > 0.8

    encoder = torch.nn.Sequential(torch.nn.Flatten(), mlp((256, 64, 32)))
    images = voxels.float().mean(1)
    result = fit_image_encoder(net, encoder, images, voxels, steps=300, lr=3e-3)
    assert result.history[-1].loss < 0.2 * net.codes(voxels).var(0).mean().item()
    assert net.planes(encoder(images)).shape == (24, 4, 24)


@pytest.mark.trains
@pytest.mark.parametrize("connections", ["learned", "private"])
def test_a_run_that_was_cut_short_ends_with_the_same_bits(connections, tmp_path):
    _, voxels = boxes(6)
    plan = [(0, 8, 4), (3, 16, 4)] if connections == "learned" else [(1, 8, 4), (2, 16, 4)]

    def run(**options):
        net = BSPNet(
            24, 2, code_dim=8, hidden=(8,), resolution=16, width=2, connections=connections, random_state=0
        )
        result = fit_autoencoder(net, voxels, stages=plan, sharpness=3.0, **options)
        return result.stopped, net.state_dict()

    path, steps = tmp_path / "net.pt", []
    assert run(checkpoint=path, deadline=0.0)[0] == "deadline"

    def cut(run):
        steps.append(run.step)
        if len(steps) == 6:  # in the midst of the second stage, where planes grow sharper
            run.stop()

    assert run(checkpoint=path, on_step=cut)[0] == "callback"
    _, whole = run()
    for _ in range(2):  # the second finds a run that is done
        stopped, state = run(checkpoint=path)
        assert stopped == "budget"
        assert all(torch.equal(v, state[k]) for k, v in whole.items())


@pytest.mark.trains
def test_the_implicit_peer_learns_the_same_boxes():
    _, voxels = boxes(6)
    net = ImplicitNet(32, resolution=16, width=8, hidden=(128, 128), random_state=0)
    fit_autoencoder(net, voxels, stages=[(0, None, 300)], lr=3e-3, n_points=512, batch_size=6)
    x = torch.from_numpy(GRID).float().expand(len(voxels), -1, -1)
    with torch.no_grad():
        codes = net.encoder(voxels)
        found = (net(x, codes) > 0.5).numpy()
        whole = net.decoder(torch.cat([2 * codes[:, None].expand(-1, x.shape[1], -1) - 1, 2 * x], -1))[
            ..., 0
        ].sigmoid()
    torch.testing.assert_close(net(x, codes), whole)  # split by code and place, or not
    truth = voxels.flatten(1).numpy()
    assert np.mean((found & truth).sum(1) / (found | truth).sum(1)) > 0.8


def test_what_does_not_agree():
    _, voxels = boxes(3)
    net = BSPNet(8, 2, code_dim=4, resolution=16, width=2, hidden=(8,), random_state=0)
    for arguments, what in (
        ({"points": np.zeros((3, 5, 3))}, "neither"),
        ({"points": np.zeros((2, 5, 3)), "occupancy": np.zeros((2, 5))}, "must have shapes"),
        ({"points": np.full((3, 5, 3), np.nan), "occupancy": np.zeros((3, 5))}, "finite"),
        ({"stages": [(0, None, 0)]}, "steps"),
        ({"stages": [(7, None, 1)]}, "phase"),
        ({"stages": [(0, 5, 1)]}, "does not divide"),
        ({"stages": []}, "a stage at least"),
    ):
        with pytest.raises(ValueError, match=what):
            fit_autoencoder(net, voxels, **arguments)
    with pytest.raises(ValueError, match="no voxel inside"):
        fit_autoencoder(net, torch.zeros(2, 16, 16, 16))
    with pytest.raises(ValueError, match="voxels must have shape"):
        fit_autoencoder(net, torch.ones(2, 16, 8, 8))
    net = BSPNet(8, 2, encoder=None)
    with pytest.raises(ValueError, match="no encoder"):
        fit_autoencoder(net, voxels)


def test_an_encoder_of_images_that_does_not_return_codes():
    _, voxels = boxes(3)
    net = BSPNet(8, 2, code_dim=4, resolution=16, width=2, hidden=(8,), random_state=0)
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 1))  # which would be broadcast
    with pytest.raises(ValueError, match="must return codes"):
        fit_image_encoder(net, encoder, voxels.float().mean(1), voxels, steps=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_models_of_another_precision_train_on_arrays_of_any_kind(dtype):
    _, voxels = boxes(3)
    seen = voxels.numpy()[:, ::-1]
    net = BSPNet(8, 2, code_dim=4, resolution=16, width=2, hidden=(8,), phase=1, random_state=0).to(dtype)
    before = net.decoder[-1].bias.clone()
    fit_autoencoder(net, seen, stages=[(3, None, 2)])
    assert net.decoder[-1].bias.dtype == dtype
    assert not torch.equal(net.decoder[-1].bias, before)
