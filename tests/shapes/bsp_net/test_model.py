"""The network's layers and losses, against half-spaces whose union is known."""

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

from lodim.shapes.bsp_net import BSPNet, convex_of, halfspaces_to_polytope, name_convexes, part_iou


def two_cubes(shift=0.1, slope=100.0, dim=3):
    """Rows of the planes of two cubes of side 0.4 beside each other, as (1, dim + 1, 4 dim)."""
    rows = []
    for x in (-shift, shift):
        middle = np.r_[x, np.zeros(dim - 1)]
        for axis in range(dim):
            for sign in (-1, 1):
                n = sign * np.eye(dim)[axis]
                rows.append([*n, -0.2 - n @ middle])
    return torch.tensor(np.array(rows).T[None] * slope)


def net_of(phase=1, dim=3, connections="private", **options):
    net = BSPNet(
        4 * dim, 2, dim, encoder=None, phase=phase, connections=connections, random_state=0, **options
    )
    net.double()
    if connections == "learned":
        net.T.data = torch.eye(2, dtype=torch.float64).repeat_interleave(2 * dim, 0)
        net.W.data.fill_(1)
    return net


def points(n=4000, seed=0, dim=3):
    return torch.rand(n, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 0.5


def union(x, shift=0.1):
    far = x.abs()[..., 1:].amax(-1) <= 0.2
    return far & ((x[..., 0].abs() - shift).abs() <= 0.2)


@pytest.mark.parametrize("phase", [1, 2, 3, 4])
def test_s_is_0_where_some_hull_contains_the_point_and_nowhere_else(phase):
    net, planes, x = net_of(phase), two_cubes(), points()
    S, h2 = net(x, planes)
    expected = np.zeros((len(x), 2), dtype=bool)
    for j, rows in enumerate(net.halfspaces(planes)):
        equations = ConvexHull(halfspaces_to_polytope(rows).vertices).equations
        expected[:, j] = (x.numpy() @ equations[:, :3].T + equations[:, 3] <= 1e-12).all(1)
    np.testing.assert_array_equal((h2[0] == 0).numpy(), expected)
    np.testing.assert_array_equal((S[0] == 0).numpy(), expected.any(1))


@pytest.mark.parametrize("phase", [1, 2, 3, 4])
def test_s_is_that_of_the_extracted_shape_with_a_t_that_is_not_binary_or_empty(phase):
    net, planes, x = net_of(phase, connections="learned"), two_cubes(), points()
    with torch.no_grad():
        net.T.mul_(0.6).sub_(0.005)  # half-way in phase 3
        net.T[:, 1] = 0.009  # bounded by nothing, this convex would be the whole of space
    found = net.extract(planes)
    assert (found.ids.tolist(), found.n_empty) == ([0], 1)
    np.testing.assert_array_equal(
        (net(x, planes)[0][0] == 0).numpy(),
        (x.numpy() @ net.halfspaces(planes)[0][:, :3].T + net.halfspaces(planes)[0][:, 3] <= 0).all(1),
    )
    with torch.no_grad():  # a convex that was everywhere would make S 0 and cost 1 at every point outside
        less = net.loss(planes, x, net(x, planes)[0][0] == 0) - net.loss(planes, x, torch.ones(len(x)))
    assert float(less) < 0


def test_learned_and_private_connections_agree():
    x, planes = points(500), two_cubes(slope=20.0)
    one, two = (net_of(connections=c)(x, planes)[1] for c in ("private", "learned"))
    torch.testing.assert_close(one, two)


def test_the_truth_has_no_loss():
    x = points()
    x = x[
        ((x.abs()[:, 0] - 0.3).abs() > 0.02) & ((x[:, 1:].abs() - 0.2).abs() > 0.02).all(1)
    ]  # beyond the ramp
    planes, F = two_cubes(), union(x)
    for phase in (0, 1, 3):
        for shift in (0.0, 0.5):
            net = net_of(phase, connections="learned", shift=shift)
            assert net.loss(planes, x, F).item() == pytest.approx(0, abs=1e-12)
    wrong = two_cubes(0.2)
    assert all(net_of(k, connections="learned").loss(wrong, x, F).item() > 0.01 for k in (0, 1, 3))


def test_binary_truth_is_a_fixed_point_of_phase_3():
    net, x = net_of(3, connections="learned"), points()
    x = x[((x.abs()[:, 0] - 0.3).abs() > 0.02) & ((x[:, 1:].abs() - 0.2).abs() > 0.02).all(1)]
    net.loss(two_cubes(), x, union(x)).backward()
    assert float(net.T.grad.abs().max()) == 0


def test_t_has_no_gradient_in_phases_1_and_2_and_one_in_0_3_and_4():
    for phase in range(5):
        net = net_of(phase, connections="learned")
        with torch.no_grad():
            net.T.mul_(0.7)
        planes, x = two_cubes(slope=20.0).requires_grad_(), points(500)
        net.loss(planes, x, union(x)).backward()
        assert (net.T.grad is None) == (phase in (1, 2))
        assert float(planes.grad.abs().max()) > 0


def test_overlap_counts_only_where_two_convexes_meet():
    x = points()
    for shift in (0.1, 0.25):
        planes, F = two_cubes(shift, slope=0.04), union(x, shift)  # a ramp that reaches into the other cube
        less = net_of(1).loss(planes, x, F) - net_of(2).loss(planes, x, F)
        both = (net_of(1)(x, planes)[1][0] < 0.01).all(-1) & F
        assert bool(both.any())  # h2 < 0.01 is wide at this slope
        h2 = net_of(1)(x, planes)[1][0]
        assert float(less) == pytest.approx(float((h2 * both[:, None]).mean()), rel=1e-9)
    planes = two_cubes(0.25)  # steep: no point is in both
    F = union(x, 0.25)
    assert float(net_of(1).loss(planes, x, F)) == float(net_of(2).loss(planes, x, F))


@pytest.mark.parametrize(("shift", "offset"), [(0.0, -0.5), (0.5, 0.0)])
def test_where_the_loss_puts_a_plane(shift, offset):
    """Least where S of the loss is 1/2 at the boundary: a half unit inside it, or on it."""
    slope, x = 10.0, torch.linspace(-0.5, 0.5, 20001, dtype=torch.float64)
    x = torch.stack([x, torch.zeros_like(x)], 1)
    net = BSPNet(1, 1, 2, encoder=None, phase=1, connections="private", shift=shift).double()
    shifts = torch.linspace(-0.1, 0.1, 81, dtype=torch.float64)
    losses = []
    for shift in shifts.tolist():
        plane = torch.tensor([[[slope], [0.0], [-slope * shift]]], dtype=torch.float64)
        losses.append(float(net.loss(plane, x, x[:, 0] <= 0)))
    assert float(shifts[int(np.argmin(losses))]) == pytest.approx(offset / slope, abs=2e-3)


def test_the_phase_travels_with_the_state_copies_and_pickles():
    net = BSPNet(8, 2, resolution=8, width=2, hidden=(8,), random_state=0).set_phase(3)
    other = BSPNet(8, 2, resolution=8, width=2, hidden=(8,), random_state=1)
    other.load_state_dict(net.state_dict())
    voxels = torch.rand(2, 8, 8, 8) > 0.5
    for twin in (other, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin.phase == 3
        torch.testing.assert_close(twin.planes(voxels), net.planes(voxels))
    assert net.planes(net.codes(voxels)).shape == (2, 4, 8)
    with pytest.raises(ValueError, match=r"codes must have shape \(batch, 256\)"):
        net.planes(torch.zeros(2, 8))


def test_mesh_soup_polygons_and_counts():
    pytest.importorskip("manifold3d")
    net, planes = net_of(), two_cubes()
    mesh, soup = net.to_mesh(planes), net.to_mesh(planes, "soup")
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(0.096)
    assert soup.volume == pytest.approx(0.128)
    assert mesh.metadata["n_convexes"] == 2
    assert set(soup.face_attributes["convex"]) == {0, 1}
    assert len(net.to_mesh(planes, "polygons")) == 12
    flat = net_of(dim=2).extract(two_cubes(dim=2))
    assert [p.volume for p in flat.polytopes] == pytest.approx([0.16, 0.16])
    with pytest.raises(ValueError, match="polygons"):
        net_of(dim=2).to_mesh(two_cubes(dim=2))
    rows, ids = net.convexes(planes)
    assert [len(r) for r in rows] == [6, 6]
    assert ids.tolist() == [0, 1]


def test_a_convex_beyond_the_cube_is_counted_and_an_empty_shape_warned_of():
    pytest.importorskip("trimesh")
    net, planes = net_of(), two_cubes(0.1)
    planes[0, 3, 6] = 1e3  # the second has no inside
    found = net.extract(planes)
    assert (found.ids.tolist(), found.n_empty) == ([0], 1)
    planes[0, 3, 0] = 1e3
    with pytest.warns(UserWarning, match="empty"):
        assert len(net.to_mesh(planes, "soup").faces) == 0


def test_phase_0_warns_that_t_is_cut():
    with pytest.warns(UserWarning, match="phase 0"):
        net_of(0, connections="learned").extract(two_cubes())


def test_parts_are_named_by_majority():
    net, planes, x = net_of(), two_cubes(0.25), points().numpy()
    truth = np.where(union(torch.from_numpy(x), 0.25).numpy(), (x[:, 0] > 0).astype(int), -1)
    names = name_convexes(net, [planes[0]], [x[:200]], [truth[:200]])
    assert names.part.tolist() == [0, 1]
    own = truth >= 0
    assert part_iou(names.segment(net, x[own], planes[0]), truth[own]) == {0: 1.0, 1: 1.0}
    for wrong in (truth[:199], truth[:200].astype(float)):
        with pytest.raises(ValueError, match="one a point"):
            name_convexes(net, [planes[0]], [x[:200]], [wrong])
    with pytest.raises(ValueError, match="no point is in a part"):
        name_convexes(net, [planes[0]], [x], [np.full(len(x), -1)])


def test_what_a_user_may_get_wrong():
    net, planes = net_of(), two_cubes()
    with pytest.raises(ValueError, match="phase"):
        net.set_phase(5)
    with pytest.raises(ValueError, match="no multiple"):
        BSPNet(10, 3, connections="private")
    with pytest.raises(ValueError, match="power of two"):
        BSPNet(8, 2, resolution=24)
    with pytest.raises(ValueError, match="dim"):
        BSPNet(8, 2, 4)
    with pytest.raises(ValueError, match=r"shape \(batch, n, 3\)"):
        net(points(dim=2), planes)
    with pytest.raises(ValueError, match=r"planes must have shape"):
        net(points(), planes[:, :3])
    with pytest.raises(ValueError, match="no encoder"):
        net.planes(torch.zeros(1, 8, 8, 8))
    with pytest.raises(ValueError, match="diverged"):
        net.extract(planes * torch.nan)
    with pytest.raises(ValueError, match="one shape at a time"):
        net.extract(planes.repeat(2, 1, 1))
    with pytest.raises(ValueError, match="one shape at a time"):
        convex_of(net, points().numpy(), planes.repeat(2, 1, 1))
    with pytest.raises(ValueError, match="hidden"):
        BSPNet(8, 2, hidden=(8, 0))
    with pytest.raises(ValueError, match="kind"):
        net.save_mesh(planes, "never.obj", "polygons")
    with pytest.raises(ValueError, match="occupancy"):
        net.loss(planes, points(10), torch.zeros(9))
