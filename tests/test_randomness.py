"""Seeds: passed in, keyed by name, never global."""

import multiprocessing
import os
import threading

import numpy as np
import pytest
import torch

from lodim.randomness import (
    as_generator,
    build_seeded,
    derive_seed,
    forked_torch_rng,
    root_seed,
    torch_generator,
)


def test_generators():
    assert as_generator(3).random() == as_generator(np.int64(3)).random() == np.random.default_rng(3).random()
    rng = np.random.default_rng(0)
    assert as_generator(rng) is rng
    assert as_generator(None).random() != as_generator(None).random()


@pytest.mark.filterwarnings("ignore")
def test_legacy_states_are_refused():
    with pytest.raises(
        Exception, match="random_state"
    ):  # by the library, or by the type checker of the tests
        as_generator(np.random.RandomState(0))


def test_root_seed():
    assert root_seed(5) == 5
    assert root_seed(np.random.default_rng(1)) == root_seed(np.random.default_rng(1))
    rng = np.random.default_rng(1)
    assert root_seed(rng) != root_seed(rng)


def test_derived_seeds_depend_on_the_key_alone():
    """The values are part of the interface: evidence recorded on one machine must come out on another."""
    assert derive_seed(0, "projection", 10, 1) == derive_seed(0, "projection", 10, 1)
    keys = [(seed, name, d) for seed in range(5) for name in ("a", "b") for d in range(50)]
    seeds = [derive_seed(*key) for key in keys]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed(np.int64(3), "a") == derive_seed(3, "a")
    with pytest.raises(ValueError, match="at least 0"):
        root_seed(-1)
    assert derive_seed(3, "a", np.int64(1), np.str_("b")) == derive_seed(3, "a", 1, "b")


def test_derived_seeds_are_uniform():
    seeds = np.array([derive_seed(0, i) for i in range(4000)]) / 2**31
    counts = np.histogram(seeds, bins=20, range=(0, 1))[0]
    chi2 = ((counts - 200) ** 2 / 200).sum()
    assert chi2 < 43.8  # the 99.9th percentile with 19 degrees of freedom


def test_torch_generator():
    draws = [torch.rand(3, generator=torch_generator(7)) for _ in range(2)]
    assert torch.equal(*draws)


def test_seeded_building_leaves_the_global_state_alone():
    before = torch.random.get_rng_state()
    first, second, other = (build_seeded(lambda: torch.nn.Linear(3, 2), s) for s in (1, 1, 2))
    assert torch.equal(first.weight, second.weight)
    assert not torch.equal(first.weight, other.weight)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_global_state_is_restored_after_an_error():
    before = torch.random.get_rng_state()

    def fail():
        torch.rand(1)
        raise KeyError

    with pytest.raises(KeyError):
        build_seeded(fail, 0)
    with forked_torch_rng(0):
        torch.rand(1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_thread_waits_until_another_has_drawn():
    begun, drawn = threading.Event(), []

    def two_draws():
        begun.set()
        return torch.rand(2)

    other = threading.Thread(target=lambda: drawn.append(build_seeded(two_draws, 1)))
    before = torch.random.get_rng_state()
    with forked_torch_rng(0):
        first = torch.rand(2)
        other.start()
        assert not begun.wait(0.2)
        with forked_torch_rng(2):  # the thread that draws may go deeper
            torch.rand(1)
        second = torch.rand(2)
    other.join(60)
    assert torch.equal(drawn[0], build_seeded(lambda: torch.rand(2), 1))
    assert torch.equal(torch.cat([first, second]), build_seeded(lambda: torch.rand(4), 0))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_child_forked_while_a_thread_draws_may_draw_too():
    held, let_go = threading.Event(), threading.Event()

    def hold():
        with forked_torch_rng(0):
            held.set()
            let_go.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    child = multiprocessing.get_context("fork").Process(target=build_seeded, args=(dict, 0))
    child.start()
    child.join(60)
    let_go.set()
    holder.join(60)
    child.kill()
    child.join()
    assert child.exitcode == 0
