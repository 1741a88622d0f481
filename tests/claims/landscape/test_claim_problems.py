"""What the landscape claims stand on: their data, their sweeps, and one claim run for real."""

import json

import numpy as np
import pytest
import torch

from lodim.claims import run_claim
from lodim.claims.landscape import problems
from lodim.claims.landscape.objective_landscapes import digits, random_labels, shuffled_pixels
from lodim.datasets import load
from lodim.nets import fc
from lodim.training import Recipe

pytestmark = pytest.mark.trains


@pytest.fixture(scope="module")
def small():
    """300 digits to learn from, 100 held out."""
    full = problems.digits(0)
    return problems.Samples(full.X[:300], full.y[:300], full.X_val[:100], full.y_val[:100])


def test_digits_are_split_by_class_centred_and_scaled():
    problem = problems.digits(0)
    data = load("digits")
    assert len(problem.X) + len(problem.X_val) == len(data.X)
    np.testing.assert_allclose(problem.X.mean(axis=0), 0, atol=1e-12)
    everything = np.concatenate([problem.X, problem.X_val])
    assert np.ptp(everything, axis=0).max() == pytest.approx(2)  # half the pixel range is the unit
    shares = [np.bincount(y, minlength=10) / len(y) for y in (problem.y, problem.y_val)]
    np.testing.assert_allclose(*shares, atol=0.003)


def test_another_seed_is_another_split():
    assert not np.array_equal(problems.digits(0).y_val, problems.digits(1).y_val)


def test_more_directions_reach_more_and_the_seed_decides(small):
    make = lambda: fc(64, 10, width=32, depth=1)  # noqa: E731
    task, recipe = small.task(), Recipe(epochs=15)

    def score(d, seed):
        return problems.train_in_subspace(make, task, d, recipe, lr=0.1, seed=seed, score_on="train")

    few = score(5, 0)
    assert few < 0.5 < 0.9 < score(300, 0)
    assert score(5, 0) == few
    assert score(5, 1) != few


def test_memorising_finds_the_crossing_between_the_sizes_around_it(small):
    make = lambda: fc(64, 10, width=32, depth=1)  # noqa: E731
    crossing, scores = random_labels.memorise(make, small.task(), (5, 40, 320), Recipe(epochs=20), (0,))
    means = {int(d): np.mean(s) for d, s in scores.items()}
    assert crossing.status == "found"
    below = max(d for d in means if means[d] < 0.9)
    above = min(d for d in means if means[d] >= 0.9)
    assert below < crossing.value < above


def test_a_search_is_recorded_as_plain_json(small):
    finder = problems.search(
        lambda: fc(64, 10, width=16, depth=1), small, Recipe(epochs=4), 0, search=(10, 40, 160), n_seeds=2
    )
    record = problems.described(finder)
    assert json.loads(json.dumps(record)) == record
    assert record["D"] == 64 * 16 + 16 + 16 * 10 + 10
    assert record["threshold"] == pytest.approx(0.9 * record["baseline"])
    assert [len(runs) for runs in record["scores"].values()] == [2, 2, 2]


def test_shuffled_images_are_the_same_problem_to_a_fully_connected_network(small):
    shuffled = shuffled_pixels._shuffled(small, 3)
    order = [
        int(np.flatnonzero((small.X_val == column[:, None]).all(axis=0))[0]) if np.ptp(column) else -1
        for column in shuffled.X_val.T
    ]
    known = [j for j, source in enumerate(order) if source >= 0]
    assert len(known) > 40
    # training and held-out images are permuted alike
    np.testing.assert_array_equal(shuffled.X[:, known], small.X[:, [order[j] for j in known]])
    # and permuting the columns of the first layer undoes it
    net = fc(64, 10, width=8, depth=1)
    first = next(net.parameters())
    permutation = np.arange(64)[None]
    moved = shuffled_pixels.shuffle_pixels(permutation, 3)[0]
    x = torch.as_tensor(small.X, dtype=torch.float32)
    expected = net(x)
    with torch.no_grad():
        first.copy_(first[:, moved])
    torch.testing.assert_close(net(torch.as_tensor(shuffled.X, dtype=torch.float32)), expected)


def test_full_scale_needs_a_gpu():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, so the full scale would really run")
    for name in ("mnist", "random-labels", "shuffled-pixels"):
        result = run_claim(f"objective-landscapes/{name}", scale="full", out=None)
        assert result.verdict == "skipped"
        assert "GPU" in result.message or "mnist" in result.message


@pytest.mark.slow
def test_the_digits_claim_holds():
    result = run_claim(digits.CLAIM.name, out=None)
    assert result.verdict == "holds", str(result)
