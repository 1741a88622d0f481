"""Fields: what a fit must reach on what it can represent, ranges of images, and what users get wrong."""

import copy
import math
import pickle
import time

import numpy as np
import pytest
import torch

from lodim.shapes.meshes import cell_centres, packaged_mesh, to_unit_cube
from lodim.shapes.rendering import camera_to_world
from lodim.shapes.simplex_encoding import (
    FieldReport,
    HashEncoding,
    NeuralField,
    fit_image,
    fit_sdf,
    fit_volume,
    render_image,
    render_views,
)

SMALL = {"n_levels": 4, "n_min": 2, "n_max": 16, "log2_table": 10, "random_state": 0}


def sphere(points):
    return np.linalg.norm(points, axis=1) - 0.3


def ball(points):
    """A red ball of radius 0.3, dense."""
    inside = points.norm(dim=1) < 0.3
    return torch.tensor([1.0, 0.0, 0.0]).expand(len(points), 3), 100.0 * inside


def views(n=4, radius=2.0):
    angles = torch.stack([torch.linspace(0, 5, n), torch.linspace(-0.5, 0.5, n)], 1)
    return camera_to_world(angles, radius)


def test_losses_and_their_zeros():
    field = NeuralField(HashEncoding(2, **SMALL), 2, random_state=0)
    x, y = torch.rand(50, 2), torch.rand(50, 2)
    error = (field(x) - y).detach()
    assert field.loss(x, y).item() == pytest.approx(float(error.square().mean()))
    assert field.loss(x, y, "l1").item() == pytest.approx(float(error.abs().mean()))
    assert field.loss(x, y, "mape").item() == pytest.approx(
        float((error.abs() / (y + 0.01)).mean()), rel=1e-5
    )
    with pytest.raises(ValueError, match="kind must be one of"):
        field.loss(x, y, "l3")
    # of (50, 2) and (50,) or (50, 1) broadcasting would make something
    with pytest.raises(ValueError, match=r"\(50, 2\), got \(50, 1\)"):
        field.loss(x, y[:, :1])
    linear = NeuralField(HashEncoding(2, **SMALL), 2, n_hidden=0, out_activation=torch.sigmoid)
    assert len(linear.mlp) == 1
    assert linear(x).min() > 0


def test_the_same_seed_gives_the_same_field_and_every_copy_of_it():
    image = np.random.default_rng(0).random((9, 7))
    field, report = fit_image(image, steps=3, batch_size=32, random_state=5)
    same, again = fit_image(image, steps=3, batch_size=32, random_state=5)
    x = torch.rand(20, 2)
    assert torch.equal(field(x), same(x))
    assert np.array_equal(report.loss, again.loss)
    loaded = copy.deepcopy(field)
    loaded.load_state_dict(pickle.loads(pickle.dumps(field.state_dict())))
    for other in (loaded, pickle.loads(pickle.dumps(field))):
        assert torch.equal(field(x), other(x))
    assert np.allclose(field.predict(x.numpy()), field.predict(x, batch_size=3).numpy(), atol=1e-6)
    exact, points = copy.deepcopy(field).double(), np.random.default_rng(1).random((20, 2))
    assert np.array_equal(exact.predict(points), exact(torch.from_numpy(points)).detach().numpy())
    assert copy.deepcopy(field).bfloat16().predict(points).dtype == np.float32
    back = FieldReport.from_json(report.to_json())
    assert back == report
    assert report.n_parameters == sum(p.numel() for p in field.parameters())
    assert report.n_bytes == 4 * report.n_parameters
    assert report.plot() is not None


@pytest.mark.trains
@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "float32", "bool"])
def test_images_of_every_range_are_learnt(dtype):
    ramp, top = np.linspace(0, 1, 24)[:, None] * np.ones(16), 1
    if dtype.endswith("u2") or dtype == "uint16":
        # the upper eight bits are all the same
        ramp = 0.5 + ramp / 300
    if np.dtype(dtype).kind == "u":
        top = np.iinfo(dtype).max
    image = ramp > 0.5 if dtype == "bool" else np.round(ramp * top) if top > 1 else ramp
    field, report = fit_image(
        image.astype(dtype), HashEncoding(2, **SMALL), steps=300, batch_size=256, random_state=0
    )
    drawn = render_image(field, (24, 16))
    assert drawn.shape == (24, 16, 1)
    mse = ((drawn[..., 0] - image / top) ** 2).mean()
    assert report.psnr == pytest.approx(-10 * math.log10(mse), abs=0.05)
    # 16 bits: an error below the steps of 8 bits
    assert mse < (1e-3 if dtype.endswith(("u2", "16")) else 0.05 if dtype == "bool" else 0.02) ** 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 2, 1), (3, 2, 3), (2, 3, 4)])
def test_shapes_of_images(shape):
    field, report = fit_image(np.full(shape, 0.5), steps=2, batch_size=8, random_state=0)
    drawn = render_image(field, shape[:2])
    assert drawn.shape == (*shape[:2], shape[2] if len(shape) == 3 else 1)
    assert report.steps == 2


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.zeros((3, 8, 8)), "channels last"),
        (np.zeros((0, 8)), "must have shape"),
        (np.full((8, 8), 2.0), r"\[0, 1\], got 2"),
        (np.full((8, 8), np.nan), r"\[0, 1\]"),
        (np.zeros((8, 8), int), "range is not known"),
    ],
)
def test_what_is_no_image(image, told):
    with pytest.raises(ValueError, match=told):
        fit_image(image, steps=1)


def test_an_encoding_of_another_dimension_and_a_deadline():
    with pytest.raises(ValueError, match="of 3 dimensions, but 2"):
        fit_image(np.zeros((4, 4)), HashEncoding(3, **SMALL), steps=1)
    _, report = fit_image(np.zeros((4, 4)), steps=50, deadline=time.monotonic() - 1)
    assert (report.steps, report.stopped) == (0, "deadline")


@pytest.mark.trains
@pytest.mark.parametrize("kind", ["simplex", "grid"])
def test_a_sphere_and_the_slope_of_its_distance(kind):
    field, report = fit_sdf(sphere, kind, steps=250, batch_size=2048, random_state=0)
    assert report.iou > 0.95
    assert math.isnan(report.psnr)
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (2000, 3))
    assert np.abs(field.predict(points + 0.5)[:, 0] - sphere(points)).mean() < 0.01
    # a signed distance has a slope of length one, here along the radius
    x = torch.tensor(points + 0.5, dtype=torch.float32, requires_grad=True)
    (slope,) = torch.autograd.grad(field(x).sum(), x)
    radial = torch.nn.functional.normalize(x.detach() - 0.5)
    assert float((slope * radial).sum(1).mean()) == pytest.approx(1, abs=0.05)


@pytest.mark.trains
@pytest.mark.parametrize("name", ["box", "nut"])
def test_a_mesh(name):
    trimesh = pytest.importorskip("trimesh")
    if name == "nut":
        try:
            mesh, _ = to_unit_cube(packaged_mesh("nut"))
        except ModuleNotFoundError as error:
            pytest.skip(str(error))
    else:
        mesh = trimesh.creation.box((0.6, 0.4, 0.5))
        with pytest.raises(ValueError, match="to_unit_cube"):
            fit_sdf(trimesh.creation.box((2, 1, 1)), steps=1)
    field, report = fit_sdf(mesh, steps=100, batch_size=1024, n_pool=4096, random_state=0)
    assert report.iou > 0.85
    # the volume inside the field is that of the mesh, its surface goes through the mesh's vertices
    inside = field.predict(cell_centres(48) + 0.5)[:, 0] <= 0
    assert inside.mean() == pytest.approx(mesh.volume, rel=0.15)
    assert np.abs(field.predict(mesh.vertices + 0.5)).mean() < 0.03


def test_a_shape_is_asked_within_the_cube_alone():
    def asked(points):
        assert len(points)
        assert np.abs(points).max() <= 0.5
        return np.linalg.norm(points, axis=1) - 0.7

    for near_surface in (0.0, 1.0):
        _, report = fit_sdf(asked, steps=2, batch_size=512, near_surface=near_surface, random_state=0)
        assert report.steps == 2


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        (lambda p: p, r"signed distances \(n,\)"),
        (lambda p: sphere(p) < 0, "fractions"),
        (lambda p: sphere(p) / 0 * np.inf, "finite"),
    ],
)
def test_what_is_no_distance(shape, told):
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=told):
        fit_sdf(shape, steps=1)


def test_a_ball_is_drawn_as_a_disc():
    drawn = render_views(ball, views(3), 0.6, (48, 48), n_samples=128)
    red = drawn[..., 1] < 0.5
    # its outline is the cone of tangents
    radius = math.tan(math.asin(0.3 / 2)) / math.tan(0.3) * 24
    assert np.allclose(red.sum((1, 2)), math.pi * radius**2, rtol=0.02)
    assert np.array_equal(drawn[:, 0, 0], np.ones((3, 3), np.float32))
    assert np.allclose(drawn[:, 24, 24], [1, 0, 0], atol=1e-3)
    black = render_views(ball, views(3), 0.6, (48, 48), n_samples=128, background="black")
    assert black[:, 0, 0].max() == 0


@pytest.mark.parametrize(
    ("scene", "options", "told"),
    [
        (lambda p: (255 * ball(p)[0], ball(p)[1]), {}, "got 0 to 255"),
        (lambda p: (ball(p)[0], -ball(p)[1]), {}, "densities must not be negative"),
        (ball, {"background": (255, 255, 255)}, "background must be in"),
        (ball, {"n_samples": 0}, "n_samples"),
    ],
)
def test_scenes_that_are_none(scene, options, told):
    with pytest.raises(ValueError, match=told):
        render_views(scene, views(1), 0.6, (4, 4), **options)


@pytest.mark.trains
def test_a_ball_out_of_its_views():
    images = render_views(ball, views(6), 0.6, (24, 24), n_samples=128)
    images = np.round(images * 255).astype(np.uint8)
    field, report = fit_volume(images, views(6), 0.6, steps=150, batch_size=256, n_samples=24, random_state=0)
    assert report.psnr > 22
    drawn = render_views(field, views(6), 0.6, (24, 24), n_samples=48)
    mse = ((drawn - images / 255.0) ** 2).mean()
    assert report.psnr == pytest.approx(-10 * math.log10(mse), abs=0.01)


@pytest.mark.parametrize(
    ("images", "poses", "told"),
    [
        (np.zeros((2, 4, 4)), views(2), r"shape \(n, h, w, 3\)"),
        (np.zeros((3, 4, 4, 3)), views(2), "3 images and 2 poses"),
        (np.zeros((2, 4, 4, 3)), views(2, radius=0.1), "inside the scene's cube"),
        (np.zeros((2, 4, 4, 3)), views(2) @ torch.diag(torch.tensor([1.0, 1, -1, 1])), "no ray meets"),
        (np.zeros((2, 4, 4, 3)), views(2)[:, :3], r"shape \(n, 4, 4\)"),
        (np.full((2, 4, 4, 3), 7.0), views(2), r"\[0, 1\]"),
    ],
)
def test_views_that_do_not_go_together(images, poses, told):
    with pytest.raises(ValueError, match=told):
        fit_volume(images, poses, 0.6, steps=1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"near_surface": 1.5}, "near_surface must be"),
        ({"spread": -0.1}, "spread"),
        ({"n_hidden": -1}, "n_hidden"),
        ({"loss": "l0"}, "loss must be one of"),
        ({"encoding": "cube"}, "encoding must be one of"),
        ({"encoding": HashEncoding(3, **SMALL).half()}, "float16"),
        ({"mlp_lr": -1e-3}, "mlp_lr must be positive"),
    ],
)
def test_options_that_are_none(options, told):
    with pytest.raises(ValueError, match=told):
        fit_sdf(sphere, steps=1, **options)
