"""What must hold of diffusion with a database: sets without order, guidance, swaps that change no weight."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch

from lodim.generative import ClassifierFree, RetrievalDiffusion, memory_curve, proposal_curve
from lodim.neighbors import NeighborIndex
from lodim.nets import SmallUNet, TimeMLP
from lodim.randomness import build_seeded
from lodim.training import DescentRecipe


def points(n=60, d=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def untrained(p_uncond=0.0, labels=None, **options):
    """A model whose last layer is not zero, so that the context shows in the answer, and counts."""
    X = points()
    index = NeighborIndex().fit(X, labels=labels)
    model = RetrievalDiffusion(None, 3, index, k=3, p_uncond=p_uncond, random_state=0, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.denoiser.net.net.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    model.retrieval.prepare(X, ids=np.arange(len(X)))
    return model


def drawn(model, n=5, **options):
    return model.sample(n, steps=4, generator=0, **{"top_m": 0.5, **options})


def state(seed=0, n=4):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=draw), torch.randn(n, 3, 3, generator=draw)


# ------------------------------------------------------------------------------------------------------ the network


def test_the_order_of_neighbours_does_not_matter():
    model = untrained()
    x, context = state()
    seen = model.denoise(x, 0.5, {"context": context})
    assert torch.allclose(seen, model.denoise(x, 0.5, {"context": context[:, [2, 0, 1]]}), atol=1e-5)
    assert not torch.allclose(seen, model.denoise(x, 0.5, {"context": context.flip(0)}), atol=1e-3)


def test_the_same_holds_of_the_unet():
    net = SmallUNet(1, base=8, mults=(1, 2), context_dim=3)
    model = RetrievalDiffusion(net, (1, 4, 4), NeighborIndex().fit(points()))
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05)
    x, context = torch.randn(2, 1, 4, 4), state(n=2)[1]
    a, b = (model.denoise(x, 0.5, {"context": c}) for c in (context, context.flip(1)))
    assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("p_uncond", [0.0, 0.3])
def test_no_context_and_one_of_nan_are_the_vector_of_no_neighbours_repeated(p_uncond):
    model = untrained(p_uncond)
    x, context = state()
    nothing = model.denoiser.net.nothing.detach()
    plain = model.denoise(x, 0.5)
    assert torch.allclose(plain, model.denoise(x, 0.5, {"context": nothing.expand(4, 3, 3)}), atol=1e-5)
    assert torch.allclose(
        plain, model.denoise(x, 0.5, {"context": torch.full((4, 3, 3), torch.nan)}), atol=1e-5
    )
    context[1] = torch.nan  # of one sample only
    mixed = model.denoise(x, 0.5, {"context": context})
    assert torch.allclose(mixed[1], plain[1], atol=1e-5)
    assert not torch.allclose(mixed[0], plain[0], atol=1e-3)


def test_the_vector_is_learnt_with_p_uncond_and_fixed_without():
    learnt, fixed = untrained(0.3), untrained()
    assert "net.nothing" in dict(learnt.denoiser.named_parameters())
    assert "net.nothing" not in dict(fixed.denoiser.named_parameters())
    assert "denoiser.net.nothing" in fixed.state_dict()
    assert float(untrained(nothing_norm=7).denoiser.net.nothing.norm()) == pytest.approx(7, rel=1e-5)


def test_a_state_dict_keeps_the_vector_and_the_counts():
    model = untrained()
    other = RetrievalDiffusion(None, 3, NeighborIndex().fit(points()), k=3, random_state=9)
    assert not torch.equal(other.denoiser.net.nothing, model.denoiser.net.nothing)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.denoiser.net.nothing, model.denoiser.net.nothing)
    assert torch.equal(drawn(other), drawn(model))


# ------------------------------------------------------------------------------------------------------ the loss


def test_the_loss_sees_the_first_k_neighbours_of_each_sample():
    model = untrained()
    x = torch.from_numpy(points(4)).float()
    table = torch.tensor([[5, 6, 7, 8], [1, 2, 3, 4], [9, 9, 9, 9], [0, 4, 2, 1]])
    context = torch.from_numpy(points()).float()[table[:, :3]]

    def loss(**given):
        return model.loss(x, generator=torch.Generator().manual_seed(0), reduction="none", **given)

    seen = loss(neighbours=table)
    assert torch.equal(seen, loss(cond={"context": context}))
    assert torch.allclose(seen, loss(neighbours=table[:, [2, 0, 1, 3]]), rtol=1e-4)
    assert not torch.allclose(seen, loss(neighbours=table.flip(1)), rtol=1e-3)
    found = model.retrieval.search(x, m=3)[1]
    assert torch.equal(loss(), loss(neighbours=torch.from_numpy(found)))
    assert not (found == np.arange(4)[:, None]).any()
    with pytest.raises(ValueError, match="not both"):
        loss(neighbours=table, cond={"context": context})
    with pytest.raises(ValueError, match="3 or more"):
        model.loss(x, neighbours=table[:, :2])


def test_samples_are_left_without_neighbours_as_often_as_asked():
    always, never = untrained(1.0), untrained(0.0)
    x = torch.from_numpy(points(50)).float()

    def losses(model, table):
        return model.loss(x, neighbours=table, generator=torch.Generator().manual_seed(0), reduction="none")

    a, b = torch.zeros(50, 3, dtype=torch.int64), torch.full((50, 3), 7)
    assert torch.equal(losses(always, a), losses(always, b))
    assert not bool((losses(never, a) == losses(never, b)).any())
    same = losses(untrained(0.4), a) == losses(untrained(0.4), b)
    assert 8 <= int(same.sum()) <= 32


# ------------------------------------------------------------------------------------------------------ sampling


def test_guidance_of_one_is_the_conditional_and_of_zero_knows_no_neighbours():
    model = untrained()
    plain = drawn(model, guidance=1.0)
    assert torch.equal(plain, drawn(model, guidance=None))
    assert torch.equal(plain, drawn(model, guidance=np.float32(1)))
    none = drawn(model, guidance=0.0, query=-torch.ones(3))
    assert torch.allclose(none, drawn(model, guidance=0.0, query=torch.ones(3)), atol=1e-5)
    assert not torch.allclose(plain, drawn(model, guidance=1.0, query=torch.ones(3)), atol=1e-3)


def test_guidance_is_linear_between_and_beyond_both():
    model = untrained()
    x, context = state()
    a, b = model.denoise(x, 0.5), model.denoise(x, 0.5, {"context": context})
    for scale in (0.5, 3.0):
        guide = model._guidance(scale, {"context": context})
        assert isinstance(guide, ClassifierFree)
        assert torch.allclose(
            guide(model.denoiser, x, 0.5, {"context": context}), a + scale * (b - a), atol=1e-4
        )


def test_swapping_to_an_identical_database_is_the_same_to_the_bit():
    model = untrained()
    before = drawn(model)
    weights = copy.deepcopy(model.denoiser.state_dict())
    model.swap_index(NeighborIndex().fit(points()[::-1].copy(), ids=np.arange(60)[::-1]))
    assert torch.equal(drawn(model), before)
    assert all(torch.equal(weights[name], value) for name, value in model.denoiser.state_dict().items())


def test_another_database_for_one_call_or_from_now_on():
    model, other = untrained(), points(40, seed=5)
    before, own = drawn(model), model.retrieval.index
    once = drawn(model, index=other, top_m=1.0)
    assert model.report_.neighbours.max() < 40
    assert not torch.equal(once, before)
    assert model.retrieval.index is own
    assert torch.equal(drawn(model), before)
    assert torch.equal(drawn(model.swap_index(other), top_m=1.0), once)
    with pytest.warns(UserWarning, match="not known"):
        drawn(model, top_m=0.1)
    with pytest.raises(ValueError, match="vectors of 2 numbers"):
        drawn(model, index=points(40, 2))


def test_k_while_sampling_need_not_be_that_of_training():
    model = untrained()
    for k in (1, 8):
        drawn(model, k=k)
        assert model.report_.neighbours.shape == (5, k)
    with pytest.raises(ValueError, match="k=61"):
        drawn(model, k=61)


def test_labels_restrict_what_is_looked_up():
    names = np.arange(60) % 3
    model = untrained(labels=names)
    drawn(model, labels=2, top_m=1.0)
    assert set(names[model.report_.neighbours[:, 0]]) == {2}
    drawn(model, labels=[0, 1, 2, 1, 0], top_m=1.0)
    assert names[model.report_.neighbours[:, 0]].tolist() == [0, 1, 2, 1, 0]
    with pytest.raises(ValueError, match="label 7"):
        drawn(model, labels=7)


def test_queries_by_vector_by_item_and_by_set():
    model, X = untrained(), points()
    by_vector = drawn(model, query=X[4], query_mode="omit")
    found = model.report_.neighbours
    assert (found[:, 0] == 4).all()
    assert torch.equal(by_vector, drawn(model, query=np.full(5, 4)))
    assert torch.equal(by_vector, drawn(model, query=found))
    only = drawn(model, query=torch.from_numpy(X[:5]), query_mode="only")
    assert torch.allclose(only, drawn(model, query=np.arange(5)[:, None].repeat(3, 1)), atol=1e-5)
    for wrong, match in ((X[:4], "one a sample"), (np.zeros(2), "3 numbers"), (np.arange(4), "one a sample")):
        with pytest.raises(ValueError, match=match):
            drawn(model, query=wrong)
    with pytest.raises(ValueError, match="give it or labels"):
        drawn(model, query=X[4], labels=0)


def test_batches_and_seeds_do_not_show():
    model = untrained()
    assert torch.allclose(drawn(model), drawn(model, batch_size=2), atol=1e-5)
    assert not torch.equal(drawn(model), model.sample(5, steps=4, generator=1, top_m=0.5))


def test_no_samples():
    model = untrained()
    assert drawn(model, n=0).shape == (0, 3)
    assert model.report_.distances.shape == (0,)


@pytest.mark.parametrize("sampler", ["ddim", "ancestral", "dpmpp_2m"])
def test_every_sampler_is_told_of_the_neighbours(sampler):
    model = untrained()
    a, b = (drawn(model, sampler=sampler, query=points(seed=s)[0]) for s in (1, 2))
    assert not torch.allclose(a, b, atol=1e-3)


# ------------------------------------------------------------------------------------------------------ copies


def returning_items(model):
    """Turn the model into one that gives back the first item it is shown."""

    def copying(x, c_noise, cond):
        return cond["context"][:, 0]

    model.denoiser.precond = "x0"
    model.denoiser.net.forward = copying
    return model


def test_a_model_that_gives_back_items_is_found_out():
    model = returning_items(untrained())
    samples = drawn(model, guidance=1)
    assert model.report_.copies.all()
    assert np.array_equal(model.report_.nearest, model.report_.neighbours[:, 0])
    assert np.allclose(samples.numpy(), points()[model.report_.nearest], atol=1e-5)
    for what in ("raise", "redraw"):
        with pytest.raises(ValueError, match="5 of 5 samples"):
            drawn(model, guidance=1, copies=what)


def test_redrawing_takes_new_noise_and_leaves_the_others_alone():
    model = untrained()
    before = drawn(model, n=40)
    near = np.quantile(model.report_.distances, 0.2)
    real = model.retrieval.index.kneighbors(points(), 1, exclude_ids=np.arange(60))[0]
    model.retrieval.calibrate(quantile=float(np.mean(real < near)))
    drawn(model, n=40)
    flagged = model.report_.copies
    assert 0 < flagged.sum() < 40  # else the test says nothing
    after = drawn(model, n=40, copies="redraw", start=None)
    assert model.report_.n_redrawn >= flagged.sum()
    assert not model.report_.copies.any()
    assert torch.equal(after[~flagged], before[~flagged])


# ------------------------------------------------------------------------------------------------------ training


@pytest.mark.trains
def test_neighbours_help_and_random_ones_do_not():
    X = points(200, 2, seed=1).astype(np.float32)
    losses = []
    for neighbours in (None, np.random.default_rng(0).integers(0, 200, (200, 4))):
        net = build_seeded(lambda: TimeMLP(2, 32, 1, context_dim=2), 0)
        model = RetrievalDiffusion(net, 2, NeighborIndex("l2").fit(X), random_state=0)
        model.fit(X, np.arange(200), neighbours=neighbours, steps=40, batch_size=200, lr=5e-3)
        losses.append(np.mean(model.training_.losses[-15:]))
    assert losses[0] < 0.8 * losses[1]


@pytest.mark.trains
def test_a_model_is_numpy_or_tensors_as_its_data_and_resumes(tmp_path):
    X = points(60).astype(np.float32)

    def net():
        return build_seeded(lambda: TimeMLP(3, 16, 1, context_dim=3), 0)

    def model():
        return RetrievalDiffusion(net(), 3, X, p_uncond=0.2, random_state=0)

    recipe = DescentRecipe(steps=12, batch_size=16, epoch_steps=3)
    whole = model().fit(X, np.arange(60), recipe=recipe)
    assert isinstance(whole.sample(2, steps=3), np.ndarray)
    part, kept = model(), tmp_path / "run"

    def stop(done, _):
        if done == 0.5:
            raise KeyboardInterrupt

    part.fit(X, np.arange(60), recipe=recipe, checkpoint=kept, progress=stop)
    assert part.training_.stopped == "interrupted"
    part.fit(X, np.arange(60), recipe=recipe, checkpoint=kept)
    assert all(torch.equal(a, b) for a, b in zip(part.denoiser.parameters(), whole.denoiser.parameters()))
    nothing = whole.denoiser.net.nothing
    assert not torch.equal(nothing, model().denoiser.net.nothing)  # the vector is trained, and averaged
    of_tensors = model().fit(torch.from_numpy(X), steps=3, batch_size=16)
    assert isinstance(of_tensors.sample(2, steps=3), torch.Tensor)


@pytest.mark.parametrize("kind", ["double", "half", "integers", "read-only", "fortran"])
def test_samples_of_any_number_type_and_layout(kind):
    X = 10 * points()
    given = {
        "double": X, "half": X.astype(np.float16), "integers": X.round().astype(np.int64) * 3 + 1,
        "read-only": X.copy(), "fortran": np.asfortranarray(X),
    }[kind]  # fmt: skip
    given.setflags(write=False)
    model = RetrievalDiffusion(TimeMLP(3, 8, 1, context_dim=3), 3, given).fit(given, np.arange(60), steps=2)
    assert model.sample(3, steps=2).dtype == np.float32


def test_a_model_in_double_precision():
    model = RetrievalDiffusion(TimeMLP(3, 8, 1, context_dim=3), 3, points()).double()
    model.fit(torch.from_numpy(points()), np.arange(60), steps=2)
    with torch.inference_mode():
        assert model.sample(3, steps=2).dtype == torch.float64


def test_modes_are_restored_and_copies_are_independent():
    model = untrained()
    model.train()
    before = drawn(model)
    assert model.training
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(drawn(other), before)
        other.swap_index(points(40, seed=3))
        assert len(model.retrieval.index) == 60
    assert torch.equal(drawn(model), before)


def test_inpainting_goes_through_the_same_door():
    model = untrained()
    X = points(3)
    X[:, 0] = np.nan
    filled = model.inpaint(X, steps=4, corrector_steps=1, generator=0)
    assert np.array_equal(filled[:, 1:], X[:, 1:])
    assert np.isfinite(filled).all()


# ------------------------------------------------------------------------------------------------------ bad input


def test_what_does_not_fit_is_said():
    X = points()
    with pytest.raises(ValueError, match="index is missing"):
        RetrievalDiffusion(None, 3)
    with pytest.raises(ValueError, match="context_dim=3"):
        RetrievalDiffusion(TimeMLP(3, 8, 1), 3, X)
    with pytest.raises(ValueError, match="labels are those of"):
        RetrievalDiffusion(None, 3, X, n_classes=3)
    with pytest.raises(ValueError, match="k=61"):
        RetrievalDiffusion(None, 3, X, k=61)
    model = RetrievalDiffusion(TimeMLP(3, 8, 1, context_dim=3), 3, X)
    with pytest.raises(ValueError, match=r"shape \(n, 3\)"):
        model.fit(points(d=4))
    with pytest.raises(ValueError, match="NaN"):
        model.fit(np.where(X > 2, np.nan, X))
    with pytest.raises(ValueError, match="ids"):
        model.fit(X, ids=np.arange(3))
    with pytest.raises(TypeError, match="no cond"):
        model.fit(X, cond=np.arange(60))
    with pytest.raises(ValueError, match="not cond"):
        model.sample(2, cond={"context": torch.zeros(2, 4, 3)})
    with pytest.raises(ValueError, match="copies"):
        model.sample(2, top_m=1.0, copies="hide")
    with pytest.raises(ValueError, match="neighbours that are not excluded"):
        RetrievalDiffusion(TimeMLP(3, 8, 1, context_dim=3), 3, X[:4]).fit(X[:4], ids=np.arange(4))


def test_few_samples_are_warned_of_once():
    model = RetrievalDiffusion(TimeMLP(3, 8, 1, context_dim=3), 3, points())
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model.fit(points(5), steps=1)
    assert len([w for w in seen if "can only repeat" in str(w.message)]) == 1


# ------------------------------------------------------------------------------------------------------ curves


def test_curves_vary_what_is_looked_up_and_leave_the_model_as_it_was():
    model, real = untrained(labels=np.arange(60) % 2), points(50, seed=3)
    index = model.retrieval.index
    by_size = memory_curve(model, real, [3, np.int64(20), 60], n=20, steps=3, guidance=1.0)
    assert model.retrieval.index is index
    assert by_size.values == (3, 20, 60)
    by_share = proposal_curve(model, real, (1, 0.5, 1.0), n=20, steps=3, guidance=1.0)
    for curve in (by_size, by_share):
        for name in ("precision", "recall", "copies"):
            assert ((getattr(curve, name) >= 0) & (getattr(curve, name) <= 1)).all()
    # all of the database, in either way
    assert by_size.distance[-1] == by_share.distance[-1]
    assert by_size.distance[0] != by_size.distance[-1]
    model.report_ = None
    for size in (0, 2, 61):  # 3 are shown
        with pytest.raises(ValueError, match="sizes"):
            memory_curve(model, real, [60, size])
    with pytest.raises(ValueError, match="top_m must be at least 0 and at most 1"):
        proposal_curve(model, real, [1.0, 2.0])
    assert model.report_ is None  # nothing was drawn
    with pytest.raises(ValueError, match="one value or more"):
        proposal_curve(model, real, [])
    for wrong, said in (
        (None, "have rows"),
        (1.0, "have rows"),
        (torch.ones(3, 5).to_sparse(), "reference is sparse"),
    ):
        with pytest.raises((TypeError, ValueError), match=said):
            proposal_curve(model, wrong)


def test_more_of_the_database_gives_more_diverse_samples():
    model, real = returning_items(untrained()), points(200, seed=3)
    curve = memory_curve(model, real, [3, 60], n=60, steps=3, guidance=1.0)
    assert curve.recall[1] > curve.recall[0]
    narrow = proposal_curve(model, real, (1, 1.0), n=60, steps=3, guidance=1.0)
    assert narrow.recall[1] > narrow.recall[0]


def test_masked_queries_are_refused_and_one_vector_serves_all():
    model = untrained()
    with pytest.raises(ValueError, match="masked"):
        drawn(model, 3, query=np.ma.masked_equal([0, 1, 2], 1))
    one = points()[0]
    assert np.array_equal(drawn(model, 3, query=one), drawn(model, 3, query=np.tile(one, (3, 1))))


@pytest.mark.trains
def test_a_run_beside_another_database_is_not_gone_on_with(tmp_path):
    def fit(scale=1.0, k=3):
        X = points()
        model = RetrievalDiffusion(None, 3, NeighborIndex().fit(scale * X), k=k, random_state=0)
        return model.fit(X, np.arange(60), steps=10, batch_size=8, checkpoint=tmp_path / "run")

    fit()
    with pytest.raises(ValueError, match="shown"):  # the same neighbours by id, of another length
        fit(2.0)
    with pytest.raises(ValueError, match="k"):
        fit(k=2)


def test_a_curve_does_not_call_unjudged_samples_no_copies():
    model = untrained()
    model.swap_index(NeighborIndex().fit(np.ones((5, 3))))
    curve = proposal_curve(model, points(), (1.0,), n=10, steps=2)
    assert np.isnan(curve.copies).all()


@pytest.mark.trains
def test_a_fit_that_is_refused_leaves_the_counts():
    model, X = untrained(), points(seed=3)
    before, threshold = model.retrieval.counts, model.retrieval.calibrate()
    with pytest.raises(ValueError, match="steps"):
        model.fit(X, steps=-1)
    assert np.array_equal(model.retrieval.counts, before)
    assert model.retrieval.report(X[:1], np.zeros((1, 3), dtype=int)).threshold == threshold
