"""The encodings against their definition, a triangulation of SciPy, a hash in NumPy, and what users do."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy.interpolate import LinearNDInterpolator
from torch.func import functional_call

from lodim.shapes.simplex_encoding import GridHashEncoding, HashEncoding, SimplexHashEncoding
from lodim.shapes.simplex_encoding.encoding import PRIMES, _primes, skew, unskew

KINDS = ("simplex", "grid", "kuhn")


def points(n, d, seed=0):
    """Uniform ones, and both ends, the middle, and ties of the fractions."""
    x = torch.rand(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x[:3] = torch.tensor([0.0, 1.0, 0.5])[:, None]
    return x


def filled(d, kind, values=None, **options):
    """An encoding of double precision with random tables, or with values of the lattice's points."""
    settings = {"n_levels": 5, "n_min": 3, "n_max": 40, "log2_table": 7, **options}
    encoding = HashEncoding(d, kind=kind, random_state=0, **settings).double()
    with torch.no_grad():
        encoding.table.uniform_(-1, 1, generator=torch.Generator().manual_seed(1))
    return encoding


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 2, 3, 4, 7])
def test_forward_is_the_weighted_sum_of_the_rows_of_the_vertices(d, kind):
    for normalize in (True, False):
        encoding, x = filled(d, kind, normalize_skew=normalize), points(60, d)
        features = []
        for level, (n, dense) in enumerate(zip(encoding.resolutions, encoding.dense)):
            vertices, weights = encoding.vertices(x, level)
            rows = encoding.rows(vertices, level)
            assert vertices.shape == (60, 2**d if kind == "grid" else d + 1, d)
            assert weights.min() >= 0
            assert (weights.sum(1) - 1).abs().max() < 1e-14
            scaled = skew(n * x) / np.sqrt(d + 1) ** normalize if kind == "simplex" else n * x
            assert ((weights[..., None] * vertices).sum(1) - scaled).abs().max() < 1e-12
            # a level's vertices are within it
            beyond = np.sqrt(d + 1) if kind == "simplex" and not normalize else 1
            assert vertices.min() >= 0
            assert vertices.max() <= np.ceil(n * beyond)
            begin = int(encoding._offset[level])
            n_rows = (int(np.ceil(n * beyond - 1e-6)) + 1) ** d if dense else 2**encoding.log2_table
            assert n_rows <= 2**encoding.log2_table
            assert rows.min() >= begin
            assert rows.max() < begin + n_rows
            features.append((encoding.table[rows] * weights[..., None]).sum(1))
        assert torch.allclose(encoding(x), torch.cat(features, 1), rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_an_affine_function_on_the_vertices_is_reproduced_everywhere(d, kind):
    encoding = filled(d, kind, n_levels=1, n_min=2, log2_table=12, n_features=1)
    side = encoding.resolutions[0] + 1
    lattice = torch.cartesian_prod(*[torch.arange(side)] * d).reshape(-1, d).double()
    place = unskew(lattice) * np.sqrt(d + 1) if kind == "simplex" else lattice
    slope = torch.arange(1.0, d + 1, dtype=torch.float64)
    with torch.no_grad():
        encoding.table.copy_((place / 2 @ slope + 3)[:, None])
    x = points(200, d)
    assert torch.allclose(encoding(x)[:, 0], x @ slope + 3, rtol=0, atol=1e-12)


@pytest.mark.parametrize("d", [2, 3])
def test_simplices_are_the_delaunay_cells_of_the_unskewed_lattice(d):
    encoding = filled(d, "simplex", n_levels=1, n_min=4, log2_table=10, n_features=1)
    lattice = torch.cartesian_prod(*[torch.arange(5)] * d).double()
    places = unskew(lattice) * np.sqrt(d + 1) / 4
    reference = LinearNDInterpolator(places.numpy(), encoding.table.detach().numpy()[:, 0])
    x = points(500, d)[3:]
    inside = ((x > 0.2) & (x < 0.8)).all(1)
    assert np.abs(encoding(x[inside]).detach().numpy()[:, 0] - reference(x[inside].numpy())).max() < 1e-12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [2, 3, 4])
def test_features_are_continuous_across_faces_of_cells_and_simplices(d, kind):
    encoding = filled(d, kind)
    # across u_0 = 2, a face of cells of the first level, and across ties of two coordinates
    for start in (points(40, d), points(40, d, seed=1)):
        x = start.clamp(0.05, 0.95)
        x[:20, 0] = 2 / 3
        x[20:, 0] = x[20:, 1]
        step = torch.zeros(d, dtype=torch.float64)
        step[0] = 1e-9
        assert (encoding(x + step) - encoding(x - step)).abs().max() < 1e-6


def test_in_one_dimension_all_kinds_are_the_same():
    x = points(100, 1)
    with torch.no_grad():
        grid, kuhn, simplex = (filled(1, kind)(x) for kind in ("grid", "kuhn", "simplex"))
    assert torch.equal(grid, kuhn)
    # skewing a number and dividing it again rounds: by 40 cells, values up to 2 apart
    assert (grid - simplex).abs().max() < 40 * 2 * 4 * 2.3e-16


@pytest.mark.parametrize("d", [2, 3, 5, 7])
def test_the_hash_is_that_of_unsigned_integers_of_32_bits(d):
    encoding = HashEncoding(d, n_levels=2, log2_table=10, n_min=50_000, n_max=500_000, random_state=0)
    vertices, _ = encoding.vertices(points(50, d), 1)
    mixed = np.zeros(vertices.shape[:2], np.uint32)
    with np.errstate(over="ignore"):
        for j in range(d):
            mixed ^= vertices[..., j].numpy().astype(np.uint32) * np.uint32(PRIMES[j])
    assert np.array_equal(encoding.rows(vertices, 1).numpy() - 1024, mixed % np.uint32(1024))


def test_no_two_axes_have_one_multiplier():
    # equal coordinates of such axes would cancel, whatever they are
    found = _primes(60)
    assert len({prime % 2**14 for prime in found}) == 60
    assert all(prime % 2 for prime in found)


@pytest.mark.parametrize(("kind", "looked_up"), [("simplex", 5), ("kuhn", 5), ("grid", 16)])
def test_a_backward_reaches_so_many_rows(kind, looked_up):
    encoding = HashEncoding(4, n_levels=1, n_min=30, log2_table=20, kind=kind, random_state=0)
    encoding(points(4, 4)[3:].float()).sum().backward()
    assert int((encoding.table.grad != 0).any(1).sum()) == looked_up


@pytest.mark.parametrize("d", [1, 2, 3])
def test_skewing_back_and_lengths_of_the_lattice(d):
    u = points(50, d)
    assert (unskew(skew(u)) - u).abs().max() < 1e-15
    edges = unskew(torch.eye(d, dtype=torch.float64)).norm(dim=1)
    diagonal = unskew(torch.ones(1, d, dtype=torch.float64)).norm()
    assert torch.allclose(edges, edges[:1].expand(d))
    # nearly regular: in the plane edges and diagonal are equally long
    assert d != 2 or torch.allclose(diagonal, edges[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 2, 3])
def test_gradients_of_points_and_tables(d, kind):
    encoding = filled(d, kind, n_levels=2, n_min=2, n_max=6, log2_table=4)
    x = points(6, d)[3:].requires_grad_()
    table = encoding.table.detach().clone().requires_grad_()

    def features(a, t):
        return functional_call(encoding, {"table": t}, (a,))

    assert torch.autograd.gradcheck(features, (x, table))
    assert torch.autograd.gradgradcheck(features, (x, table))
    (slope,) = torch.autograd.grad(encoding(x).sum(), x)
    assert torch.equal(torch.func.grad(lambda a: encoding(a).sum())(x.detach()), slope)


def test_the_gradient_at_a_tie_is_that_of_one_of_the_simplices():
    encoding = filled(2, "kuhn", n_levels=1, n_min=2, n_features=1)
    with torch.no_grad():
        # values 0, 1, 10, 100 on the corners (0, 0), (0, 1), (1, 0), (1, 1)
        encoding.table[[0, 1, 3, 4], 0] = torch.tensor([0.0, 1.0, 10.0, 100.0], dtype=torch.float64)
    x = torch.full((1, 2), 0.25, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(encoding(x).sum(), x)
    assert (slope / 2).tolist() in ([[99.0, 1.0]], [[10.0, 90.0]])


@pytest.mark.parametrize("kind", KINDS)
def test_a_negative_zero_is_zero(kind):
    encoding, x = filled(2, kind), torch.tensor([[0.0, 0.3], [0.3, 0.0]], dtype=torch.float64)
    assert torch.equal(encoding(torch.where(x == 0, -x, x)), encoding(x))


def test_ends_of_the_cube_in_single_precision():
    for d in range(1, 9):
        encoding = HashEncoding(d, n_levels=8, n_min=3, n_max=1000, log2_table=6, random_state=0)
        x = torch.cat([torch.ones(1, d), torch.zeros(1, d), torch.full((1, d), 1 - 2**-24)])
        weights = [encoding.vertices(x, level)[1] for level in range(8)]
        assert min(float(w.min()) for w in weights) >= 0
        assert encoding(x).isfinite().all()


def test_points_outside_are_told_once():
    encoding = HashEncoding(2, random_state=0)
    x = torch.tensor([[-0.5, 2.0]])
    with pytest.warns(UserWarning, match=r"from -0\.5 to 2"):
        moved = encoding(x)
    assert torch.equal(moved, encoding(torch.tensor([[0.0, 1.0]])))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoding(x)
    with pytest.raises(ValueError, match="must lie in"):
        HashEncoding(2, strict=True)(x)


@pytest.mark.parametrize(
    ("x", "error", "told"),
    [
        (torch.tensor([[0.5, float("nan")]]), ValueError, "1 NaN"),
        (torch.rand(3), ValueError, r"shape \(n, 2\)"),
        (torch.rand(3, 3), ValueError, r"got \(3, 3\)"),
        (torch.zeros(3, 2, dtype=torch.long), ValueError, "fractions"),
        (np.zeros((3, 2)), TypeError, "from_numpy"),
    ],
)
def test_what_is_no_points(x, error, told):
    with pytest.raises(error, match=told):
        HashEncoding(2)(x)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"in_dim": 9, "kind": "grid"}, "2\\^9 corners"),
        ({"log2_table": 3}, "log2_table"),
        ({"n_max": 15}, "n_max must be at least n_min"),
        ({"kind": "simplx"}, "Did you mean 'simplex'"),
        ({"in_dim": 0}, "in_dim"),
    ],
)
def test_no_such_encoding(options, told):
    with pytest.raises(ValueError, match=told):
        HashEncoding(**{"in_dim": 2, **options})


def test_any_dimension_and_no_points():
    encoding = SimplexHashEncoding(20, n_levels=2, random_state=0)
    assert encoding(torch.rand(3, 20)).shape == (3, 4)
    assert encoding(torch.rand(0, 20)).shape == (0, 4)
    assert GridHashEncoding(2, n_levels=1).resolutions == (16,)


def test_precision_follows_points_and_tables():
    encoding, x = SimplexHashEncoding(3, random_state=0), points(50, 3)
    exact = encoding(x)
    assert exact.dtype == torch.float64
    half = copy.deepcopy(encoding).half()
    found = half(x.float())
    assert found.dtype == torch.float32
    # a half has steps of 2^-24 near zero
    assert (found - exact).abs().max() < 2**-24 + 1e-8
    found.sum().backward()
    assert half.table.grad.dtype == torch.float16


def test_copies_and_files_give_the_same_features():
    encoding, x = SimplexHashEncoding(3, n_levels=4, random_state=0), torch.rand(50, 3)
    other = SimplexHashEncoding(3, n_levels=4, random_state=1)
    assert not torch.equal(other.table, encoding.table)
    other.load_state_dict(encoding.state_dict())
    again = SimplexHashEncoding(3, n_levels=4, random_state=0)
    for same in (other, again, copy.deepcopy(encoding), pickle.loads(pickle.dumps(encoding))):
        assert torch.equal(same(x), encoding(x))


@pytest.mark.parametrize(
    "options", [{"kind": "grid"}, {"n_min": 9, "n_max": 400}, {"in_dim": 2, "log2_table": 16}]
)
def test_tables_of_another_encoding_are_refused(options):
    settings = {"in_dim": 3, "n_levels": 2, "log2_table": 6, "random_state": 0}
    other = HashEncoding(**{**settings, **options})
    state = {**SimplexHashEncoding(**settings).state_dict(), "_extra_state": other.get_extra_state()}
    with pytest.raises(ValueError, match="of another encoding"):
        SimplexHashEncoding(**settings).load_state_dict(state)


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_it_is_the_same(kind):
    encoding = HashEncoding(3, n_levels=6, log2_table=10, kind=kind, random_state=0)
    torch.compiler.reset()
    compiled = torch.compile(encoding, backend="aot_eager", fullgraph=True)
    x = torch.rand(64, 3, requires_grad=True)
    y, z = encoding(x), compiled(x)
    assert torch.allclose(y, z, rtol=0, atol=1e-9)
    one, two = (torch.autograd.grad(v.square().sum(), (x, encoding.table)) for v in (y, z))
    for a, b in zip(one, two, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-9)
