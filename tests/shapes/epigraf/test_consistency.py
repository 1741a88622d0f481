"""The photometric error of solids seen exactly, of a generator, and of one that cheats."""

import math

import pytest
import torch

from lodim.datasets.solids import procedural_solids
from lodim.shapes.epigraf.consistency import compare_views, view_consistency
from lodim.shapes.epigraf.generator import TriplaneGenerator
from lodim.shapes.rendering import camera_to_world
from lodim.shapes.renders import render_solids


def pairs(n):
    turn = math.radians(20)
    angles = (torch.rand(n, 2, generator=torch.Generator().manual_seed(n)) - 0.5) * torch.tensor([6.0, 1.0])
    return tuple(camera_to_world(angles + torch.tensor([side * turn / 2, 0.0]), 2.0) for side in (-1, 1))


def seen(solids, poses, colours):
    return (*render_solids(solids, poses, 0.7, 48, colours=colours, light=None), poses)


def test_one_colour_stays_one_colour():
    solids = procedural_solids(8, random_state=0)
    views = [seen(solids, poses, [[0.8, 0.3, 0.1]]) for poses in pairs(8)]
    found = compare_views(*views[0], *views[1], 0.7)
    assert found.error < 1e-6
    assert found.compared > 0.5
    assert found.n_pairs == 8
    # views of other solids are other surfaces where they are not hidden, and other colours an error
    blue = seen(solids, pairs(8)[1], [[0.1, 0.3, 0.8]])
    assert compare_views(*views[0], *blue, 0.7).error == pytest.approx((0.7 + 0.0 + 0.7) / 3, abs=1e-6)


def test_parts_and_shading_stay_in_place_and_other_pictures_do_not():
    solids = procedural_solids(8, random_state=0)
    a, b = pairs(8)
    views = [render_solids(solids, poses, 0.7, 48) for poses in (a, b)]
    found = compare_views(*views[0], a, *views[1], b, 0.7)
    assert found.error < 0.03
    unrelated = torch.rand(views[1][0].shape, generator=torch.Generator().manual_seed(0))
    wrong = compare_views(*views[0], a, unrelated, views[1][1], b, 0.7)
    assert wrong.error > 0.2
    # the same pictures from the wrong side: surfaces do not meet, or colours do not
    turned = compare_views(*views[0], a, *views[1], a, 0.7)
    assert turned.compared < found.compared
    assert turned.error > 2 * found.error


def test_views_of_two_sides_are_not_compared():
    solids = procedural_solids(2, ["tower"], random_state=0)
    a, b = (camera_to_world(torch.tensor([[turn, 0.0]] * 2), 2.0) for turn in (0.0, math.pi))
    found = compare_views(*seen(solids, a, None), *seen(solids, b, None), 0.7)
    assert found.compared == 0
    assert math.isnan(found.error)
    assert str(found).startswith("no surface")


class Ball(TriplaneGenerator):
    """An opaque ball, painted by place, or anew at each look (``cheats``)."""

    cheats = False

    def render(self, *args, **options):
        self.looks = getattr(self, "looks", 0) + 1
        return super().render(*args, **options)

    def field(self, planes, points, *, density_noise=0.0, generator=None):
        rgb = points + 0.5
        if self.cheats and self.looks % 2:
            rgb = 1 - rgb
        return rgb, 1e4 * (points.norm(dim=2) < 0.4).to(points)


def test_a_generator_that_paints_each_view_anew_is_found_out():
    made = Ball(8, 8, 4, 2, base_channels=4, random_state=0).train()
    z, (a, b) = torch.zeros(5, 8), pairs(5)
    honest = view_consistency(made, z, a, b, resolution=64, batch_size=2)
    assert made.training
    assert honest.error < 0.02
    # depths change by less than the tolerance from pixel to pixel up to .94 of the radius
    assert honest.compared > 0.7
    made.cheats = True
    assert view_consistency(made, z, a, b, resolution=32, batch_size=2).error > 0.2
    axes = honest.plot()
    assert axes.get_xlabel() == "photometric error"
    assert type(honest).from_json(honest.to_json()) == honest


def test_views_from_one_place_agree_wherever_there_is_a_surface():
    pose, depth = camera_to_world(torch.zeros(1, 2), 2.0), torch.full((1, 8, 8), 2.0)
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    same = compare_views(image, depth, pose, image.double(), depth.double(), pose.double(), 0.7)
    assert same.compared == 1
    assert same.error < 1e-4
    # colours where nothing is seen do not count, nor does the background at any tolerance
    depth[0, :4], image[0, :, 0] = math.inf, math.nan
    part = compare_views(image, depth, pose, image, depth, pose, 0.7, tolerance=1e9)
    assert part.error < 1e-4


def test_views_must_fit():
    made = TriplaneGenerator(4, 4, 4, 2, base_channels=2, random_state=0)
    with pytest.raises(ValueError, match="one a z"):
        view_consistency(made, torch.zeros(3, 4), pairs(2)[0], pairs(2)[1])
    image, depth, pose = torch.zeros(1, 3, 8, 8), torch.ones(1, 8, 8), camera_to_world(torch.zeros(1, 2), 2.0)
    for images, depths in ((image[..., :4], depth[..., :4]), (image[..., :1, :1], depth[..., :1, :1])):
        with pytest.raises(ValueError, match="square"):
            compare_views(images, depths, pose, images, depths, pose, 0.7)
    with pytest.raises(ValueError, match="depths of both views"):
        compare_views(image, depth, pose, image, depth[:, :4], pose, 0.7)
