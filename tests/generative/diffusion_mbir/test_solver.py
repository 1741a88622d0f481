"""What must hold of DiffusionMBIR whatever the data: its limits, its invariances, and when it collapses."""

import copy
import itertools
import pickle
import warnings

import numpy as np
import pytest
import torch

from lodim.claims.generative.diffusion_mbir import limited, sparse_view
from lodim.claims.result import Progress, verdict_of
from lodim.datasets import ellipse_volume
from lodim.generative import (
    ADMMTV,
    PFGMPP,
    Blur,
    CartesianMRI,
    Denoiser,
    Diffusion,
    DiffusionMBIR,
    EmpiricalDenoiser,
    GaussianDenoiser,
    Inpaint,
    MatrixOperator,
    ParallelBeam,
    Trajectory,
    cartesian_mask,
    volume_quality,
)
from lodim.generative.diffusion_mbir.solver import _JointUpdate, _std_of
from lodim.nets import TimeMLP
from lodim.randomness import build_seeded

SIZE, Z = 8, 6


def gaussian_prior(size=SIZE, n=12):
    slices = [ellipse_volume(16, size, random_state=i) for i in range(1, n)]
    return GaussianDenoiser.fit(torch.from_numpy(np.concatenate(slices)))


@pytest.fixture(scope="module")
def prior():
    return gaussian_prior()


@pytest.fixture(scope="module")
def truth():
    return torch.from_numpy(ellipse_volume(Z, SIZE, random_state=0))


@pytest.fixture(scope="module")
def beam():
    return ParallelBeam(SIZE, n_views=4)


def few(prior, operator, **options):
    return DiffusionMBIR(prior, operator, **{"steps": 12, **options})


def fewest(prior, operator, **options):
    """Where the volume need not be good: what must be equal is equal after any number of steps."""
    return few(prior, operator, **{"steps": 4, **options})


def invertible(seed=0):
    rng = np.random.default_rng(seed)
    return MatrixOperator(np.eye(9) + 0.3 * rng.normal(size=(9, 9)) / 3, (1, 3, 3))


# ------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("sampler", ["pc", "ddim"])
def test_full_data_without_coupling_give_the_least_squares_solution(sampler):
    operator, x = (
        invertible(),
        torch.randn(4, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
    )
    denoiser = GaussianDenoiser(torch.zeros(1, 3, 3), torch.eye(9))
    solver = fewest(denoiser, operator, lam=0, cg_steps=40, sampler=sampler)
    found = solver.reconstruct(operator.forward(x), generator=0)
    torch.testing.assert_close(found.volume, x, rtol=0, atol=1e-6)
    assert found.quality.residual < 1e-6


def test_more_measurements_than_pixels_are_met_in_the_least_squares_sense():
    rng = np.random.default_rng(0)
    matrix = np.concatenate([np.eye(9), rng.normal(size=(5, 9)) / 3])
    operator = MatrixOperator(matrix, (1, 3, 3))
    y = rng.normal(size=(2, 14))  # of no volume
    solver = fewest(
        GaussianDenoiser(torch.zeros(1, 3, 3), torch.eye(9)),
        operator,
        lam=0,
        cg_steps=40,
        final_projection=False,
    )
    expected = np.linalg.lstsq(matrix, y.T, rcond=None)[0].T.reshape(2, 1, 3, 3)
    np.testing.assert_allclose(solver.reconstruct(y, generator=0).volume, expected, atol=1e-5)


@pytest.mark.parametrize(("order", "boundary"), [("x_first", "none"), ("z_first", "circular")])
def test_the_joint_update_alone_converges_to_the_regularised_problems_solution(order, boundary):
    """Convex: nothing near or far is better."""
    rng = np.random.default_rng(0)
    operator, lam = MatrixOperator(np.eye(4) + rng.normal(size=(4, 4)) / 10, (1, 2, 2)), 0.05
    y = torch.from_numpy(rng.normal(size=(4, 4)))
    options = {"lam": lam, "rho": 0.3, "cg_steps": 12, "admm_steps": 60, "boundary": boundary}
    solver = DiffusionMBIR(lambda x, sigma: x, operator, update_order=order, **options)
    x = _JointUpdate(solver, y)(torch.zeros(4, 1, 2, 2, dtype=torch.float64))

    def objective(v):
        steps = v.roll(-1, 0) - v if boundary == "circular" else v.diff(dim=0)
        return float(
            (operator.forward(v) - y).square().sum() / operator.norm() ** 2 / 2 + lam * steps.abs().sum()
        )

    best = objective(x)
    for size in (1e-5, 1e-3, 0.1):
        for step in size * rng.normal(size=(20, *x.shape)):
            assert objective(x + torch.from_numpy(step)) > best - 1e-9
    for other in (x.mean(0, keepdim=True).expand_as(x), 0 * x, operator.pinv_init(y)):
        assert best <= objective(other)


def test_a_large_weight_makes_all_slices_equal(prior, truth, beam):
    y = beam.forward(truth)
    rough = [
        few(prior, beam, lam=lam, admm_steps=8 if lam else 1, cg_steps=3, final_projection=False)
        .reconstruct(y, generator=0)
        .quality.z_roughness
        for lam in (0, 0.02, 100.0)
    ]
    assert rough[0] > rough[1] > 10 * rough[2]


@pytest.mark.parametrize(("boundary", "low", "high"), [("none", 0.2, 0.8), ("circular", 0.3, 0.7)])
def test_a_ramp_across_slices_is_cut_at_both_ends_as_total_variation_cuts_it(boundary, low, high):
    """Each end moves until what it was moved by sums to the weight; round the circle it is pulled from both sides."""
    y = torch.linspace(0, 1, 6, dtype=torch.float64)[:, None].expand(6, 4)
    options = {"lam": 0.2, "cg_steps": 10, "admm_steps": 100, "boundary": boundary}
    solver = DiffusionMBIR(lambda x, s: x, MatrixOperator(np.eye(4), (1, 2, 2)), rho=0.5, **options)
    x = _JointUpdate(solver, y.contiguous())(torch.zeros(6, 1, 2, 2, dtype=torch.float64))
    torch.testing.assert_close(x, y.clamp(low, high).reshape(6, 1, 2, 2).contiguous(), rtol=0, atol=1e-4)


def test_slices_are_permuted_with_their_measurements_where_nothing_couples_them(prior, truth, beam):
    """Without coupling a slice knows of the others by the Langevin steps' size alone, which "ddim" has not."""
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    solver = fewest(prior, beam, lam=0, sampler="ddim", eta=0, cg_steps=30)
    one = solver.reconstruct(beam.forward(truth.double()), generator=0).volume
    other = solver.reconstruct(beam.forward(truth.double())[order], generator=0).volume
    far = (other[torch.argsort(order)] - one).abs().max()  # the noise is another, what was measured the same
    torch.testing.assert_close(
        beam.forward(other)[torch.argsort(order)], beam.forward(one), rtol=0, atol=2e-3
    )
    assert far < 0.5


def test_measurements_and_operator_in_another_unit_change_nothing(prior, truth, beam):
    small = MatrixOperator(beam.matrix / 1000, (1, SIZE, SIZE), beam.data_shape)
    x = truth.double()
    one = fewest(prior, beam).reconstruct(beam.forward(x), generator=0).volume
    other = fewest(prior, small).reconstruct(small.forward(x), generator=0).volume
    torch.testing.assert_close(one, other, rtol=0, atol=1e-7)
    plain = few(prior, small, normalize_operator=False, final_projection=False).reconstruct(
        small.forward(x), generator=0
    )
    assert plain.quality.residual > 0.1  # where the measurements weigh a millionth


def test_everything_scales_with_the_datas_unit(prior, truth, beam):
    large = GaussianDenoiser.fit(
        1000
        * torch.from_numpy(np.concatenate([ellipse_volume(16, SIZE, random_state=i) for i in range(1, 12)]))
    )
    x = truth.double()
    one = fewest(prior, beam).reconstruct(beam.forward(x), x, generator=0)
    other = fewest(large, beam, lam=5.0).reconstruct(beam.forward(1000 * x), 1000 * x, generator=0)
    torch.testing.assert_close(1000 * one.volume, other.volume, rtol=0, atol=1e-2)
    assert one.quality.psnr["volume"] == pytest.approx(other.quality.psnr["volume"], abs=1e-3)


# ------------------------------------------------------------------------------------------------- what it is for


def test_coupling_beats_no_coupling_and_total_variation_with_an_exact_prior():
    size = 12
    prior, truth = gaussian_prior(size, 30), torch.from_numpy(ellipse_volume(12, size, random_state=0))
    beam = ParallelBeam(size, n_views=3)
    y, scores = beam.forward(truth), {}
    for sampler, lam in itertools.product(("pc", "ddim"), (0, 0.005)):
        found = few(prior, beam, lam=lam, steps=20, sampler=sampler).reconstruct(y, truth, generator=0)
        scores[sampler, lam] = found.quality.psnr["volume"]
        assert found.quality.residual < 0.05
    classical = volume_quality(ADMMTV(beam, 1e-3, cg_steps=10).reconstruct(y), truth).psnr["volume"]
    for sampler in ("pc", "ddim"):
        assert scores[sampler, 0.005] > scores[sampler, 0] + 0.3
        assert scores[sampler, 0.005] > classical + 1


@pytest.mark.parametrize("operator", [
    CartesianMRI(cartesian_mask((SIZE, SIZE), "uniform1d", 2, 0.25, random_state=0)),
    Inpaint(np.random.default_rng(0).random((SIZE, SIZE)) < 0.5),
], ids=["mri", "inpaint"])  # fmt: skip
def test_other_physics_are_met(prior, truth, operator):
    y = operator.forward(truth)
    found = few(prior, operator, steps=20).reconstruct(y, truth, generator=0)
    assert found.volume.dtype == torch.float32
    assert found.quality.residual < 0.02
    filled = operator.pinv_init(y)
    assert float((found.volume - truth).norm()) < 0.8 * float((filled - truth).norm())


def test_the_papers_order_collapses_where_the_warning_says_and_ours_does_not(prior, truth, beam):
    y, levels = beam.forward(truth), {"steps": 25, "sigma_max": 10, "sigma_min": 0.01}

    def score(**options):
        found = DiffusionMBIR(prior, beam, **{**levels, **options}).reconstruct(y, truth, generator=0)
        return found.quality.psnr["volume"]

    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*z_first", UserWarning)
        calm = score(update_order="x_first")
        assert score(rho=1.0) > calm - 4
        assert score(rho=1.0, sampler="ddim") > calm - 4
        score(rho=1.0, update_order="x_first", share=False, steps=2)
        score(rho=1.0, update_order="x_first", lam=0, steps=2)
    for options in ({"rho": 1.0}, {"lam": 0.0005}):
        with pytest.warns(UserWarning, match="z_first"):
            assert score(update_order="x_first", **options) < calm - 10
    for options in (
        {"lam": 0.05, "rho": 1.0},
        {"lam": 9, "rho": 0.2 * beam.norm() ** 2, "normalize_operator": False},
    ):
        with pytest.warns(UserWarning, match="a tenth of A's squared norm"):
            score(update_order="x_first", steps=2, **options)


def test_unshared_variables_depend_on_no_earlier_level(beam, truth):
    y = beam.forward(truth.double())
    solver = DiffusionMBIR(lambda x, s: x, beam, share=False, admm_steps=3)
    joint = _JointUpdate(solver, y)
    first = joint(truth.double())
    joint(10 + 0 * first)
    torch.testing.assert_close(joint(truth.double()), first)
    shared = _JointUpdate(DiffusionMBIR(lambda x, s: x, beam), y)
    first = shared(truth.double())
    assert not torch.allclose(shared(truth.double()), first)


# ------------------------------------------------------------------------------------------------- invariances


def test_slice_batches_alter_nothing_but_rounding(truth, beam):
    seen = []

    class Noted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = gaussian_prior().double()

        def forward(self, x, sigma, cond=None):
            seen.append(len(x))
            return self.inner(x, sigma)

    found = {}
    for size in (1, 4, 100):
        seen.clear()
        found[size] = fewest(Noted(), beam, slice_batch=size, sigma_max=4.0).reconstruct(
            beam.forward(truth.double()), generator=3
        )
        assert max(seen) == min(size, Z)
    torch.testing.assert_close(found[1].volume, found[100].volume, rtol=0, atol=1e-9)
    torch.testing.assert_close(found[4].volume, found[100].volume, rtol=0, atol=1e-9)


def test_a_seed_means_the_same_again_and_no_global_one_is_touched(prior, truth, beam):
    y, before = beam.forward(truth), torch.get_rng_state()
    solver = fewest(prior, beam)
    one, again, other = (solver.reconstruct(y, generator=g).volume for g in (5, 5, 6))
    drawn = solver.reconstruct(y, generator=torch.Generator().manual_seed(5)).volume
    fresh = solver.reconstruct(y).volume
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, again)
    assert torch.equal(one, drawn)
    assert not torch.allclose(one, other)
    assert not torch.equal(fresh, solver.reconstruct(y).volume)


def test_arrays_give_arrays_in_the_precision_of_the_measurements(prior, truth, beam):
    y = beam.forward(truth)
    plain = fewest(prior, beam).reconstruct(y, generator=0).volume
    swapped = y.numpy().astype(">f4")
    for values in (y.numpy(), np.asfortranarray(y.numpy()), swapped, y.half().numpy()):
        found = fewest(prior, beam).reconstruct(values, generator=0).volume
        assert isinstance(found, np.ndarray)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, plain.numpy(), atol=0.02)
    fixed = y.numpy().copy()
    fixed.flags.writeable = False
    np.testing.assert_allclose(
        fewest(prior, beam).reconstruct(fixed, generator=0).volume, plain.numpy(), atol=1e-6
    )
    double = fewest(prior, beam).reconstruct(y.double().numpy(), generator=0).volume
    assert double.dtype == np.float64
    whole = beam.forward(torch.ones(Z, 1, SIZE, SIZE)).round().int().numpy()
    assert np.isfinite(fewest(prior, beam).reconstruct(whole, generator=0).volume).all()
    with pytest.raises(ValueError, match="masked"):
        fewest(prior, beam).reconstruct(np.ma.masked_less(y.numpy(), 0.1), generator=0)


def test_copies_and_pickles_reconstruct_the_same(prior, truth, beam):
    y, solver = beam.forward(truth), fewest(prior, beam)
    expected = solver.reconstruct(y, generator=0).volume
    for other in (copy.deepcopy(solver), pickle.loads(pickle.dumps(solver))):
        assert torch.equal(other.reconstruct(y, generator=0).volume, expected)


def test_a_trained_model_is_used_in_evaluation_mode_and_left_as_it_was(truth, beam):
    model = Diffusion(build_seeded(lambda: TimeMLP(SIZE**2, 16, 1), 0), (1, SIZE, SIZE)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = fewest(model, beam).reconstruct(beam.forward(truth).requires_grad_(), generator=0)
    assert model.training
    assert model.denoiser.training
    assert not found.volume.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.inference_mode():
        assert torch.equal(
            fewest(model, beam).reconstruct(beam.forward(truth), generator=0).volume, found.volume
        )
    assert (
        fewest(model.double(), beam).reconstruct(beam.forward(truth), generator=0).volume.dtype
        == torch.float32
    )


def test_a_plain_network_in_single_precision_takes_measurements_in_double(truth, beam):
    """NumPy's numbers are in double where nobody says otherwise."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x, sigma):
            return self.layer(x) / (1 + sigma)

    solver = fewest(build_seeded(Net, 0), beam, sigma_max=4.0)
    double, single = (
        solver.reconstruct(beam.forward(truth).numpy().astype(dtype), generator=0).volume
        for dtype in (np.float64, np.float32)
    )
    assert double.dtype == np.float64
    np.testing.assert_allclose(double, single, atol=1e-3)


# ------------------------------------------------------------------------------------------------- levels


def test_automatic_levels_follow_the_deviation_of_what_the_denoiser_knows(prior, truth, beam):
    y = beam.forward(truth)
    slices = 3 * torch.randn(50, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) + 7
    std = float((slices - slices.mean(0)).square().mean().sqrt())
    empirical, fitted = EmpiricalDenoiser(slices), GaussianDenoiser.fit(slices)
    trained = Denoiser(TimeMLP(SIZE**2, 8, 1), sigma_data=0.5, scale=2 * std)
    for denoiser in (empirical, fitted, trained):
        assert _std_of(denoiser) == pytest.approx(std, rel=1e-4)
        levels = few(denoiser, beam).levels(y)
        assert levels[0] == pytest.approx(40 * std, rel=1e-4)
        assert levels[-1] == pytest.approx(0.04 * std, rel=1e-4)
        assert len(levels) == 12
        np.testing.assert_allclose(np.diff(np.log(levels)), np.log(1e-3) / 11)
    own = few(lambda x, s: x, beam).levels(y)
    assert own[0] == pytest.approx(40 * float(beam.pinv_init(y).std()), rel=1e-5)
    assert few(prior, beam, sigma_max=9, sigma_min=0.5).levels(y)[::11] == [9, 0.5]
    with pytest.raises(ValueError, match="below sigma_max"):
        few(prior, beam, sigma_max=1, sigma_min=2).levels(y)
    with pytest.raises(ValueError, match="nothing in y"):
        few(lambda x, s: x, beam).levels(0 * y)


def test_the_last_step_adds_no_noise_and_clipping_is_the_last(prior, truth, beam):
    y, seen = beam.forward(truth), Trajectory(Z)
    found = few(prior, beam, final_projection=False).reconstruct(y, generator=0, on_step=seen).volume
    assert seen.sigmas[-1] == 0
    assert len(seen.sigmas) == 12
    torch.testing.assert_close(seen.x[-1], found)
    clipped = fewest(prior, beam, clip=(0.2, 0.4)).reconstruct(y, generator=0).volume
    assert float(clipped.min()) == pytest.approx(0.2)
    assert float(clipped.max()) == pytest.approx(0.4)


def test_the_final_projection_only_lowers_the_residual(prior, truth, beam):
    y = beam.forward(truth)
    without, projected = (
        fewest(prior, beam, final_projection=p).reconstruct(y, generator=0) for p in (False, True)
    )
    assert projected.quality.residual < without.quality.residual
    hidden = Inpaint(
        np.arange(SIZE**2).reshape(SIZE, SIZE) % 2 == 0
    )  # where nothing was seen nothing is divided
    seen = torch.from_numpy(hidden.mask.reshape(SIZE, SIZE))
    both = [
        fewest(prior, hidden, final_projection=p).reconstruct(hidden.forward(truth), generator=0).volume
        for p in (False, True)
    ]
    torch.testing.assert_close(both[0][..., ~seen], both[1][..., ~seen])
    torch.testing.assert_close(both[1][..., seen], truth[..., seen])


@pytest.mark.parametrize("operator", [
    MatrixOperator(np.random.default_rng(0).normal(size=(30, 49)), (7, 7)),  # its A^T A 1 is as often below 0
    CartesianMRI(np.random.default_rng(0).random((7, 7)) * (np.hypot(*np.mgrid[-3:4, -3:4]) > 0) > 0.4),  # of 1 nothing
    Blur([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], (7, 7)),  # 0 but at the border
], ids=["gaussian", "mri", "laplace"])  # fmt: skip
def test_the_final_projection_harms_no_operator_whose_numbers_have_both_signs(operator):
    x = torch.from_numpy(ellipse_volume(Z, 7, random_state=0))
    y, missed = operator.forward(x), []
    for final in (False, True):
        found = fewest(gaussian_prior(7), operator, final_projection=final).reconstruct(y, x, generator=0)
        missed.append((found.quality.residual, float((found.volume - x).norm())))
    assert missed[1][0] <= missed[0][0] * (1 + 1e-5)
    assert missed[1][1] < 1.1 * missed[0][1]


# ------------------------------------------------------------------------------------------------- long work


def stop_after(n):
    count = itertools.count(1)

    def stop(state):
        if next(count) == n:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("sampler", ["pc", "ddim"])
def test_ctrl_c_returns_the_answer_so_far_and_a_checkpoint_goes_on_to_the_same_volume(
    tmp_path, prior, truth, beam, sampler
):
    y, solver, path = beam.forward(truth), few(prior, beam, sampler=sampler), tmp_path / "run.pt"
    whole = solver.reconstruct(y, generator=0)
    assert (whole.steps, whole.stopped) == (12, "finished")
    with pytest.warns(UserWarning, match="interrupted after 4 of 12"):
        found = solver.reconstruct(y, truth, generator=0, on_step=stop_after(5), checkpoint=path)
    assert (found.steps, found.stopped) == (4, "interrupted")
    assert bool(found.volume.isfinite().all())
    solver = few(
        gaussian_prior().eval(), ParallelBeam(SIZE, n_views=4), sampler=sampler
    )  # as another process makes it
    steps = []
    again = solver.reconstruct(
        y, generator=0, checkpoint=path, on_step=lambda state: steps.append((state.i, state.steps))
    )
    assert steps == [(i, 12) for i in range(4, 12)]
    assert torch.equal(again.volume, whole.volume)
    assert again.stopped == "finished"
    assert torch.equal(
        solver.reconstruct(y, generator=0, checkpoint=path).volume, whole.volume
    )  # nothing left to do
    few(prior, beam, sampler=sampler, slice_batch=2).reconstruct(
        y, generator=0, checkpoint=path
    )  # may go on too
    heavier = few(prior, beam, sampler=sampler, lam=0.01)
    for other, data, seed in ((solver, y + 1, 0), (solver, y, 1), (heavier, y, 0)):
        with pytest.raises(ValueError, match=r"run\.pt is of other"):
            other.reconstruct(data, generator=seed, checkpoint=path)


def test_ctrl_c_before_any_level_has_nothing_to_return(beam, truth):
    def stop(x, sigma):
        raise KeyboardInterrupt

    solver = few(stop, beam, sigma_max=4.0)
    with pytest.raises(KeyboardInterrupt):
        solver.reconstruct(beam.forward(truth))


def test_progress_ends_at_one_and_callbacks_may_replace_the_volume(prior, truth, beam):
    y, told = beam.forward(truth), []
    few(prior, beam).reconstruct(y, generator=0, progress=lambda done, text: told.append((done, text)))
    assert [round(done * 12) for done, _ in told] == list(range(1, 13))
    assert told[-1][1] == "noise 0"
    held = fewest(prior, beam, final_projection=False).reconstruct(
        y, generator=0, on_step=lambda state: 0 * state.x + 7
    )
    assert bool((held.volume == 7).all())


def test_several_seeds_give_mean_and_spread(prior, truth, beam):
    y = beam.forward(truth)
    told = []
    found = fewest(prior, beam).repeat(
        y, 3, truth, random_state=1, progress=lambda done, text: told.append(done)
    )
    assert told == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert found.mean.shape == found.std.shape == (Z, 1, SIZE, SIZE)
    assert len(found.figures["PSNR"]) == 3
    assert len(set(found.figures["PSNR"])) == 3
    frame = found.to_frame().set_index("figure")
    assert frame.loc["PSNR", "mean"] == pytest.approx(found.figures["PSNR"].mean())
    volumes = []
    solver = fewest(prior, beam)
    original = solver.reconstruct
    solver.reconstruct = lambda *a, **k: volumes.append(original(*a, **k)) or volumes[-1]
    solver.repeat(y, 3, random_state=1)
    stack = np.stack([v.volume.numpy() for v in volumes])
    np.testing.assert_allclose(found.mean, stack.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.std, stack.std(0, ddof=1), atol=1e-6)


def test_ctrl_c_among_seeds_keeps_those_that_are_done(prior, truth, beam):
    y, solver = beam.forward(truth), fewest(prior, beam)
    begun = []

    def stop(done, text):
        begun.append(text)

    original = solver.reconstruct
    stopping = stop_after(3)

    def third_is_stopped(*args, **options):
        return original(*args, **options, on_step=stopping if len(begun) == 3 else None)

    solver.reconstruct = third_is_stopped
    with pytest.warns(UserWarning, match="interrupted"):
        found = solver.repeat(y, 4, progress=stop)
    assert len(found.figures["residual"]) == 2
    begun[:] = ["", ""]
    stopping = stop_after(3)
    with pytest.warns(UserWarning, match="interrupted"), pytest.raises(KeyboardInterrupt):
        solver.repeat(y, 4, progress=stop)


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(("options", "error", "words"), [
    ({"rho": 0}, ValueError, "rho must be positive"), ({"rho": -1}, ValueError, "rho"),
    ({"lam": -1}, ValueError, "lam"), ({"lam": float("nan")}, ValueError, "lam"),
    ({"lam": float("inf")}, ValueError, "lam must be finite"), ({"cg_steps": 0}, ValueError, "cg_steps"),
    ({"admm_steps": 0}, ValueError, "admm_steps"), ({"slice_batch": 0}, ValueError, "slice_batch"),
    ({"steps": 1}, ValueError, "steps"), ({"steps": 2.5}, TypeError, "steps"), ({"eta": 2}, ValueError, "eta"),
    ({"sigma_max": 0}, ValueError, "sigma_max"), ({"sigma_max": "large"}, ValueError, "auto"),
    ({"boundary": "open"}, ValueError, "circular"), ({"sampler": "heun"}, ValueError, "ddim"),
    ({"update_order": "y"}, ValueError, "z_first"), ({"clip": (1, 0)}, ValueError, "clip"),
    ({"snr": -1}, ValueError, "snr"), ({"corrector_steps": -1}, ValueError, "corrector_steps"),
    ({"share": "yes"}, TypeError, "share"), ({"denoiser": 3}, TypeError, "denoiser"),
    ({"operator": np.eye(3)}, TypeError, "operator"),
])  # fmt: skip
def test_options_out_of_range_are_refused(prior, beam, options, error, words):
    with pytest.raises(error, match=words):
        DiffusionMBIR(**{"denoiser": prior, "operator": beam, **options})


def test_measurements_that_do_not_fit_are_refused(prior, truth, beam):
    y, solver = beam.forward(truth), fewest(prior, beam)
    for wrong, words in (
        (y[..., :-1], "shape"),
        (y[0], "shape"),
        (y.cfloat(), "real"),
        (y * float("nan"), "finite"),
    ):
        with pytest.raises(ValueError, match=words):
            solver.reconstruct(wrong)
    with pytest.raises(ValueError, match="no neighbours"):
        solver.reconstruct(y[:1])
    with pytest.raises(ValueError, match="no neighbours"):
        solver.reconstruct(y[:0])
    assert fewest(prior, beam, lam=0).reconstruct(y[:1], generator=0).volume.shape == (1, 1, SIZE, SIZE)


def test_a_truth_that_does_not_fit_is_refused_before_the_work(truth, beam):
    asked = []
    solver = fewest(lambda x, s: asked.append(s) or 0 * x, beam)
    y = beam.forward(truth)
    for wrong, data_range, words in (
        (truth[:-1], None, "truth has shape"),
        (0 * truth, None, "one grey"),
        (truth, -1, "data_range"),
    ):
        with pytest.raises(ValueError, match=words):
            solver.reconstruct(y, wrong, generator=0, data_range=data_range)
    assert not asked
    mask = CartesianMRI(np.ones((SIZE, SIZE), bool))  # whose measurements are complex
    assert fewest(lambda x, s: 0 * x, mask).reconstruct(mask.forward(truth), truth, generator=0).steps == 4


def test_denoisers_that_do_not_fit_are_refused(beam, truth):
    for denoiser in (
        gaussian_prior(6),
        EmpiricalDenoiser(torch.zeros(3, 1, 9, 9)),
        Diffusion(shape=(1, 9, 9)),
        Diffusion(shape=SIZE**2),
    ):
        with pytest.raises(ValueError, match="slices of shape"):
            DiffusionMBIR(denoiser, beam)
    with pytest.raises(ValueError, match="other noise"):
        DiffusionMBIR(PFGMPP(shape=(1, SIZE, SIZE), D=64), beam)
    with pytest.raises(ValueError, match="real=True"):
        DiffusionMBIR(gaussian_prior(), CartesianMRI(np.ones((SIZE, SIZE), bool), real=False))
    with pytest.raises(ValueError, match="the denoiser made"):
        few(lambda x, s: x[..., :-1], beam).reconstruct(beam.forward(truth), generator=0)
    for answer, words in ((None, "got None"), (np.ones(3), "got an array"), (0.0, "got 0.0")):
        with pytest.raises(TypeError, match=f"what the denoiser returns must be a tensor, {words}"):
            few(lambda x, s, answer=answer: answer, beam).reconstruct(beam.forward(truth), generator=0)
    with pytest.raises(ValueError, match=r"answer to noise of .* has NaN"):
        few(lambda x, s: x * float("nan"), beam).reconstruct(beam.forward(truth), generator=0)


# ------------------------------------------------------------------------------------------------- claims


def test_the_claims_arithmetic(monkeypatch):
    rng = np.random.default_rng(0)
    images = np.kron(rng.random((40, 4, 4)), np.ones((7, 7))).reshape(40, -1)
    monkeypatch.setattr(sparse_view, "load", lambda *args, **options: type("Set", (), {"X": images}))
    monkeypatch.setattr(sparse_view, "WEIGHTS", (1e-3,))
    monkeypatch.setattr(sparse_view, "TRAINING", 10)
    monkeypatch.setitem(sparse_view.VARIANTS["ddim, 50 levels"], "steps", 2)
    monkeypatch.setattr(
        sparse_view, "ADMMTV", lambda operator, lam, **options: ADMMTV(operator, lam, max_iter=2)
    )
    small = {"n": 1, "n_slices": 12, "net": lambda: TimeMLP(196, 8, 1), "steps": 2, "levels": 2}
    for claim, options in ((sparse_view, {"views": (2,)}), (limited, {})):
        found = claim.run(0, Progress(), **small, **options)
        assert found.checks
        assert verdict_of(found.checks) in ("holds", "fails", "differs")
        assert all(np.isfinite(row["PSNR"]) for table in found.figures.values() for row in table.values())
