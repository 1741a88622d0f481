"""RARM: what is written follows what was read, the law of samples is the model's, and neighbours are what it shows."""

import copy
import itertools
import math
import pickle
import shutil

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from lodim.generative import PatchCodebook, RetrievalTransformer
from lodim.neighbors import NeighborIndex
from lodim.nets import CausalTransformer
from lodim.randomness import build_seeded

PATCHES = np.array([[[0.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [0.0, 0.0]], [[2.0, 0.0], [2.0, 2.0]]])
DIM = 3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def codebook():
    return PatchCodebook((2, 4), n_codes=3).fit(pictures([[0, 1], [2, 0]]))


def pictures(kinds):
    """Images of two patches each, by the patches' numbers."""
    return PATCHES[np.array(kinds)].swapaxes(1, 2).reshape(-1, 2, 4)


def sketch(X):
    """An embedding: three numbers of an image, one of them not zero."""
    rows = np.asarray(X).reshape(len(X), -1)
    return np.hstack(
        [rows @ np.random.default_rng(0).normal(size=(rows.shape[1], 2)), np.ones((len(rows), 1))]
    )


def items(n=12, seed=5, labels=None):
    return NeighborIndex().fit(np.random.default_rng(seed).normal(size=(n, DIM)), labels=labels)


def model(index=None, book=None, moved=0.4, seed=0, **options):
    book = codebook() if book is None else book
    net = build_seeded(
        lambda: CausalTransformer(book.n_codes + 1, book.length, 16, 2, 2, context_dim=DIM), seed
    )
    index = items() if index is None else index
    out = RetrievalTransformer(book, index, sketch, k=2, net=net, **options)
    with torch.no_grad():  # away from the small start, so that equalities mean something
        for p in out.net.parameters():
            p.add_(torch.randn(p.shape, generator=seeded(1)) * moved)
    return out.eval()


def random_codes(n=4, length=6, seed=2):
    return torch.randint(3, (n, length), generator=seeded(seed))


def long_book():
    return PatchCodebook((4, 6), n_codes=3).fit(
        np.tile(pictures([[0, 1], [2, 0], [1, 2]])[:, :, :2], (1, 2, 3))
    )


def noise(*shape, seed=3):
    return torch.randn(*shape, generator=seeded(seed))


# ---------------------------------------------------------------------------------------------------- the network


def test_logits_do_not_know_of_their_own_code_or_later_ones():
    net, codes, context = model(book=long_book()), random_codes(), noise(4, 2, DIM)
    before = net.logits(codes, context)
    for j in (0, 2, 5):
        changed = codes.clone()
        changed[:, j] = (changed[:, j] + 1) % 3
        after = net.logits(changed, context)
        assert torch.equal(after[:, : j + 1], before[:, : j + 1])
        assert j == 5 or not torch.allclose(after[:, j + 1], before[:, j + 1])


def test_the_order_of_neighbours_does_not_matter_and_without_them_neither_does_their_number():
    net, codes, context = model(book=long_book()), random_codes(), noise(4, 3, DIM)
    torch.testing.assert_close(
        net.logits(codes, context[:, [2, 0, 1]]), net.logits(codes, context), atol=1e-5, rtol=0
    )
    assert not torch.allclose(net.logits(codes, context), net.logits(codes), atol=1e-2)
    torch.testing.assert_close(
        net.logits(codes, torch.zeros(4, 3, DIM)), net.logits(codes), atol=1e-5, rtol=0
    )


def test_the_loss_is_the_surprise_a_token_with_the_neighbours_asked_for():
    net, X = model(), torch.from_numpy(pictures([[0, 1], [2, 2], [1, 0]])).float()
    ids = torch.tensor([[1, 2], [3, 4], [0, 7]])
    codes = net.codebook.encode(X)
    p = net.logits(codes, net.retrieval.vectors(ids)).softmax(-1)
    expected = [-(p[i, 0, a].log() + p[i, 1, b].log()) / 2 for i, (a, b) in enumerate(codes)]
    each = net.loss(X, ids, reduction="none")
    torch.testing.assert_close(each, torch.stack(expected))
    torch.testing.assert_close(net.loss(X, ids), each.mean())
    _, nearest = net.retrieval.index.kneighbors(sketch(X), 2)
    torch.testing.assert_close(net.loss(X), net.loss(X, torch.from_numpy(nearest)))
    more = torch.cat([ids, torch.full((3, 1), 9)], 1)  # of which the first two are shown
    torch.testing.assert_close(net.loss(X, more), net.loss(X, ids))
    own = model(index=NeighborIndex().fit(sketch(X)))
    other = torch.tensor([[1, 2], [0, 2], [0, 1]])
    torch.testing.assert_close(own.loss(X), own.loss(X, other))  # not themselves
    with pytest.raises(ValueError, match="2 or more"):
        net.loss(X, ids[:, :1])


def test_neighbours_are_left_out_as_often_as_asked():
    X = torch.from_numpy(pictures([[0, 1]] * 400)).float()
    net = model()
    kept = net.loss(X[:1], reduction="none")
    never = model(p_uncond=1.0)
    left_out = never.loss(X[:1])
    torch.testing.assert_close(
        left_out,
        torch.nn.functional.cross_entropy(
            net.logits(net.codebook.encode(X[:1]))[0], net.codebook.encode(X[0:1])[0]
        ),
    )
    mixed = model(p_uncond=0.3).loss(X, generator=seeded(), reduction="none")
    far = (mixed - kept).abs() > 1e-4
    torch.testing.assert_close(mixed[far], left_out.expand(int(far.sum())))
    assert 80 < int(far.sum()) < 160  # 120 are expected, with a deviation of 9


# ---------------------------------------------------------------------------------------------------- sampling


def law_of(net, context, guidance=1.0, temperature=1.0, top_k=None):
    """The probability of every sequence, from whole passes without a cache."""
    kinds = torch.tensor(list(itertools.product(range(3), repeat=2)))
    shown = net.logits(kinds, context.expand(len(kinds), -1, -1)).double()
    plain = net.logits(kinds).double()
    logits = (plain + guidance * (shown - plain)) / temperature
    if top_k is not None:
        logits[logits < logits.topk(top_k).values[..., -1:]] = -math.inf
    p = logits.softmax(-1)
    return (p[:, 0].gather(1, kinds[:, :1]) * p[:, 1].gather(1, kinds[:, 1:]))[:, 0].detach().numpy()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"guidance": 2.5},
        {"guidance": 0.0},
        {"temperature": 0.5, "top_k": 2},
        {"guidance": 1.5, "top_k": 2},
    ],
)
def test_samples_have_the_law_of_the_logits(options):
    net, query = model(), noise(1, DIM)
    images = net.sample(3000, query=query[0], query_mode="only", generator=0, batch_size=1700, **options)
    expected = law_of(net, query[None], **options)
    codes = net.codebook.encode(images)
    found = np.bincount((3 * codes[:, 0] + codes[:, 1]).numpy(), minlength=9)
    assert expected.sum() == pytest.approx(1)
    assert not found[expected == 0].any()
    assert chisquare(found[expected > 0], 3000 * expected[expected > 0]).pvalue > 1e-3


def test_guidance_one_is_conditional_and_zero_is_without_neighbours():
    net = model(book=long_book())
    given = {"top_m": 1.0, "generator": 4, "temperature": 0.7}
    plain = net.sample(20, **given)
    assert torch.equal(net.sample(20, guidance=1, **given), plain)
    assert not torch.equal(net.sample(20, guidance=4.0, **given), plain)
    nothing = {"query": torch.zeros(DIM), "query_mode": "only", "generator": 4}
    zero = {"query": noise(DIM), "query_mode": "only", "generator": 4}
    assert torch.equal(net.sample(20, guidance=0.0, **zero), net.sample(20, **nothing))
    assert torch.equal(net.sample(20, guidance=3.0, **nothing), net.sample(20, **nothing))


def test_the_likeliest_code_each_time_needs_no_luck():
    net, query = model(book=long_book()), noise(5, DIM)
    given = {"query": query, "query_mode": "only", "top_k": 1}
    first = net.sample(5, generator=0, **given)
    assert torch.equal(net.sample(5, generator=1, temperature=3.0, batch_size=2, **given), first)
    codes = net.codebook.encode(first)
    assert torch.equal(net.logits(codes, query[:, None]).argmax(-1), codes)


def test_seeds_repeat_and_the_global_generator_is_left_alone():
    net, state = model(book=long_book()), torch.get_rng_state()
    net.train()
    one, again, other = (net.sample(n=6, top_m=1.0, generator=s) for s in (0, seeded(0), 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert net.training
    assert not one.requires_grad
    assert net.sample(0, generator=0, top_m=1.0).shape == (0, 4, 6)


def test_another_database_makes_other_samples_and_the_same_one_the_same():
    net = model(book=long_book())
    given = {"top_m": 1.0, "generator": 0}
    before = net.sample(30, **given)
    report = net.report_
    assert report.neighbours.shape == (30, 2)
    assert np.isin(report.neighbours, net.retrieval.index.ids).all()
    assert torch.equal(net.swap_index(items()).sample(30, **given), before)
    other = net.sample(30, index=items(seed=6), **given)
    assert not torch.equal(other, before)
    assert torch.equal(net.sample(30, **given), before)
    assert torch.equal(net.swap_index(items(seed=6)).sample(30, **given), other)
    with pytest.raises(ValueError, match="built for 3"):
        net.swap_index(NeighborIndex().fit(np.ones((5, 2))))


def test_labels_queries_and_k_choose_what_is_shown():
    net = model(index=items(labels=np.arange(12) % 2))
    net.sample(8, labels=1, top_m=1.0, generator=0)
    assert (net.report_.neighbours[:, 0] % 2 == 1).all()  # each query is its own first neighbour
    net.sample(3, query=[4, 4, 5], k=5, generator=0)
    assert net.report_.neighbours.shape == (3, 5)
    assert net.report_.neighbours[:, 0].tolist() == [4, 4, 5]
    with pytest.raises(ValueError, match="label 7"):
        net.sample(2, labels=7, top_m=1.0)
    with pytest.raises(ValueError, match="it or labels"):
        net.sample(2, labels=1, query=[4, 4])
    with pytest.raises(ValueError, match="masked"):
        net.sample(2, query=np.ma.masked_less([4, 5], 5))
    with pytest.raises(ValueError, match="one vector, or 5"):
        net.sample(5, query=[4, 5])


def test_copies_are_noted_drawn_again_or_refused():
    net, given = model(), {"top_m": 1.0, "generator": 0}
    images = net.sample(30, **given)
    near = float(np.quantile(net.report_.distances, 0.2))
    net.retrieval._threshold = near
    with pytest.raises(ValueError, match="as copies do"):
        net.sample(30, copies="raise", **given)
    clean = net.sample(30, copies="redraw", **given)
    assert net.report_.n_redrawn >= 6
    assert net.report_.distances.min() > near
    same = (clean == images).flatten(1).all(1)
    assert 0 < int(same.sum()) <= 24  # what was no copy stays


def test_states_copies_and_precisions_sample_alike():
    net = model(book=long_book())
    given = {"top_m": 1.0, "generator": 0}
    expected = net.sample(10, **given)
    fresh = model(book=PatchCodebook((4, 6), n_codes=3), moved=0.1, seed=1)
    fresh.load_state_dict(net.state_dict())
    for other in (fresh, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other.sample(10, **given), expected)
    twin = copy.deepcopy(net)
    with torch.no_grad():
        twin.codebook.quantizer.weight.add_(1.0)
    assert torch.equal(net.sample(10, **given), expected)
    torch.testing.assert_close(twin.sample(10, **given), expected + 1.0)
    double = copy.deepcopy(net).double()
    codes, context = random_codes(), noise(4, 2, DIM)
    assert double.sample(10, **given).dtype == torch.float64
    torch.testing.assert_close(
        double.logits(codes, context).float(), net.logits(codes, context), atol=1e-4, rtol=0
    )


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match="n_tokens=4"):
        RetrievalTransformer(codebook(), items(), net=CausalTransformer(3, 2, 8, 1, 2, context_dim=3))
    with pytest.raises(ValueError, match="context_dim=3"):
        RetrievalTransformer(codebook(), items(), net=CausalTransformer(4, 2, 8, 1, 2))
    net = model()
    with pytest.raises(ValueError, match="more than the 12 items"):
        net.sample(2, k=13, top_m=1.0)
    with pytest.raises(ValueError, match="guidance"):
        net.sample(2, guidance=math.inf)
    with pytest.raises(ValueError, match="top_k"):
        net.sample(2, top_k=0, top_m=1.0)
    with pytest.raises(ValueError, match="no images"):
        net.fit(np.zeros((0, 2, 4)))
    with pytest.raises(ValueError, match="fit it to images"):
        model(book=PatchCodebook((2, 4), n_codes=3)).fit(pictures([[0, 1]]))


# ---------------------------------------------------------------------------------------------------- training


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.net.parameters()])


def test_an_image_in_the_database_is_not_shown_itself():
    rng = np.random.default_rng(0)
    X = np.round(rng.normal(size=(30, 2, 4)), 3)
    book = PatchCodebook((2, 4), n_codes=3).fit(X)
    index = NeighborIndex("l2").fit(sketch(X), ids=np.arange(100, 130))
    own = np.arange(100, 130)
    with_self = index.kneighbors(sketch(X), 3)[1]
    assert (with_self[:, 0] == own).all()
    trained = [
        model(index, book).fit(X, **options, steps=3, batch_size=8)
        for options in ({"ids": own}, {"neighbours": with_self[:, 1:]}, {"neighbours": with_self[:, :2]})
    ]
    assert torch.equal(weights(trained[0]), weights(trained[1]))
    assert not torch.equal(weights(trained[0]), weights(trained[2]))
    assert trained[0].retrieval.counts.sum() == 60
    assert isinstance(trained[0].sample(2, top_m=1.0), np.ndarray)


@pytest.mark.trains
def test_what_was_stopped_goes_on_to_the_same_bits(tmp_path):
    X, ids = pictures([[i % 3, i % 2] for i in range(40)]), np.arange(40)
    given = {"batch_size": 8, "random_state": 3}

    class Stop:
        def __init__(self, after):
            self.left = after

        def __call__(self, done, text):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    def start():
        return model(NeighborIndex().fit(sketch(X)), moved=0.0, p_uncond=0.2)

    whole = start().fit(X, ids, steps=20, **given)
    path = tmp_path / "run"
    half = start()
    half.fit(X, ids, steps=20, checkpoint=path, progress=Stop(2), **given)
    assert half.training_.stopped == "interrupted"
    assert half.training_.steps < 20
    shutil.copy(path, tmp_path / "again")
    resumed = start().fit(X, ids, steps=20, checkpoint=path, **given)
    assert torch.equal(weights(resumed), weights(whole))
    assert torch.equal(
        weights(half.fit(X, ids, steps=20, checkpoint=tmp_path / "again", **given)), weights(whole)
    )
    before = resumed.retrieval.counts, float(resumed.context_unit)
    with pytest.raises(ValueError, match="table"):
        resumed.fit(X, ids, neighbours=np.zeros((40, 2), dtype=int), steps=20, checkpoint=path, **given)
    assert np.array_equal(resumed.retrieval.counts, before[0])
    with pytest.raises(ValueError, match="steps"):
        resumed.fit(2 * X[:30], steps=-1)
    assert (float(resumed.context_unit), np.array_equal(resumed.retrieval.counts, before[0])) == (
        before[1],
        True,
    )


@pytest.mark.trains
def test_frequencies_of_a_few_sequences_are_learnt_and_those_of_each_neighbourhood():
    """Beside neighbours of one kind three sequences occur 5 : 3 : 2, beside those of the other kind one."""
    kinds = [[0, 1]] * 25 + [[1, 2]] * 15 + [[1, 0]] * 10 + [[2, 2]] * 50
    X = pictures(kinds)
    index = NeighborIndex().fit(
        [[1.0, 0.1, 0.0], [1.0, 0.0, 0.1], [-1.0, 0.1, 0.0], [-1.0, 0.0, 0.1]], labels=[0, 0, 1, 1]
    )
    neighbours = np.repeat([[0, 1], [2, 3]], 50, axis=0)
    net = model(index, moved=0.0).fit(X, neighbours=neighbours, steps=250, batch_size=100, lr=0.01)
    a, b, c = (3 * i + j for i, j in net.codebook.encode(pictures([[0, 1], [1, 2], [1, 0]])))
    law = law_of(net, index_vectors(net, [0, 1]))
    np.testing.assert_allclose(law[[a, b, c]], [0.5, 0.3, 0.2], atol=0.03)
    (d,) = (3 * i + j for i, j in net.codebook.encode(pictures([[2, 2]])))
    assert law_of(net, index_vectors(net, [2, 3]))[d] > 0.97
    images = net.sample(50, labels=1, top_m=1.0, generator=0)
    assert (np.abs(images - pictures([[2, 2]])).max((1, 2)) < 1e-5).mean() > 0.9
    net.retrieval.swap(
        NeighborIndex().fit([[1.0, 0.1, 0.0], [1.0, 0.0, 0.1]])
    )  # the first kind alone is left
    images = net.sample(200, top_m=1.0, generator=0)
    assert not (np.abs(images - pictures([[2, 2]])).max((1, 2)) < 1e-5).mean() > 0.05


def index_vectors(net, ids):
    return net.retrieval.vectors(torch.tensor([ids]))
