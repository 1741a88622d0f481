"""Independent jobs: order, failures, the store, interruption; the same on every backend."""

from __future__ import annotations

import errno
import functools
import importlib.util
import os
import pickle
import sys

import numpy as np
import pytest

from lodim.identity import content_hash
from lodim.parallel import JobsInterrupted, Outcome, ResultStore, run_jobs
from lodim.parallel import jobs as running
from lodim.parallel.cluster import _knock, _parse


def square(x):
    return x * x


def power(x, n):
    return x**n


class Square:
    def __init__(self, side):
        self.side = side


def area(square):
    return square.side**2


def backends():
    return [{"n_jobs": 1}, {"n_jobs": 2}]


@pytest.mark.parametrize("backend", backends())
def test_results_come_in_the_jobs_order(backend):
    shift = 3  # a closure must travel to the workers

    def slow_for_small(x):
        import time

        time.sleep(0.05 if x == 0 else 0.0)
        return x * x + shift

    outcomes = run_jobs(slow_for_small, list(range(6)), **backend)
    assert [o.value for o in outcomes] == [x * x + 3 for x in range(6)]
    assert all(o.done and o.error is None and not o.cached for o in outcomes)


@pytest.mark.parametrize("backend", backends())
def test_a_failed_job_is_reported_and_the_rest_are_kept(backend):
    def fragile(x):
        if x == 1:
            raise ValueError("no root of a negative number")
        return x

    outcomes = run_jobs(fragile, [0, 1, 2], **backend)
    assert [o.value for o in outcomes] == [0, None, 2]
    assert "no root of a negative number" in outcomes[1].error
    assert "fragile" in outcomes[1].error  # the traceback, not the message alone


def test_workers_are_other_processes_with_one_thread():
    def where(_):
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(3)  # the next job in this worker is not to have them
        return os.getpid(), threads

    outcomes = run_jobs(where, range(6), n_jobs=2)
    assert all(o.value[0] != os.getpid() and o.value[1] == 1 for o in outcomes)
    assert run_jobs(lambda _: os.getpid(), [0])[0].value == os.getpid()


@pytest.mark.parametrize("backend", backends())
def test_finished_jobs_are_not_run_again(tmp_path, backend):
    store, log = ResultStore(tmp_path / "store"), tmp_path / "log"

    def count(x):
        with log.open("a") as file:
            file.write(f"{x}\n")
        if x == 2 and not (tmp_path / "mended").exists():
            raise RuntimeError("first time")
        return 10 * x

    first = run_jobs(count, [0, 1, 2], store=store, **backend)
    assert first[2].error is not None
    (tmp_path / "mended").touch()
    second = run_jobs(count, [0, 1, 2, 3], store=ResultStore(tmp_path / "store"), **backend)
    assert [o.value for o in second] == [0, 10, 20, 30]
    assert [o.cached for o in second] == [True, True, False, False]
    assert sorted(log.read_text().split()) == ["0", "1", "2", "2", "3"]


def test_key_decides_what_is_the_same_job(tmp_path):
    store = ResultStore(tmp_path)
    run_jobs(square, [2], store=store, key=lambda x: ("parity", x % 2))
    (outcome,) = run_jobs(square, [4], store=store, key=lambda x: ("parity", x % 2))
    assert outcome == Outcome(4, cached=True)


def test_ctrl_c_keeps_what_is_done(tmp_path):
    store, ran = ResultStore(tmp_path), []

    def job(x):
        if x == 2 and not ran.count("again"):
            raise KeyboardInterrupt
        ran.append(x)
        return x

    with pytest.raises(JobsInterrupted, match="2 of 4 jobs done") as caught:
        run_jobs(job, [0, 1, 2, 3], store=store, key=int)
    assert [o.done for o in caught.value.outcomes] == [True, True, False, False]
    assert [o.value for o in caught.value.outcomes[:2]] == [0, 1]
    ran.append("again")
    assert [o.value for o in run_jobs(job, [0, 1, 2, 3], store=store, key=int)] == [0, 1, 2, 3]
    assert ran == [0, 1, "again", 2, 3]


def test_ctrl_c_among_processes_keeps_what_is_done():
    seen = []

    def stop_after_two(index, outcome):
        seen.append((index, outcome.value))
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(JobsInterrupted) as caught:
        run_jobs(lambda x: x + 1, list(range(6)), n_jobs=2, on_done=stop_after_two)
    done = [(i, o.value) for i, o in enumerate(caught.value.outcomes) if o.done]
    assert sorted(seen) == done
    assert len(done) == 2


def test_on_done_hears_of_cached_jobs_too(tmp_path):
    store, heard = ResultStore(tmp_path), []
    run_jobs(square, [1, 2], store=store)
    run_jobs(square, [1, 2, 3], store=store, on_done=lambda i, o: heard.append((i, o.value, o.cached)))
    assert heard == [(0, 1, True), (1, 4, True), (2, 9, False)]


def test_the_same_jobs_of_another_function_or_other_values_are_other_jobs(tmp_path):
    store, long = ResultStore(tmp_path), np.zeros(4000)
    other = long.copy()
    other[2000] = 1.0  # repr shows the ends only
    assert run_jobs(np.sum, [long], store=store)[0].value == 0.0
    assert run_jobs(np.sum, [other], store=store)[0] == Outcome(1.0)
    assert run_jobs(np.max, [long], store=store)[0] == Outcome(0.0)
    assert run_jobs(np.sum, [long], store=store)[0] == Outcome(0.0, cached=True)
    assert run_jobs(functools.partial(power, n=2), [3], store=store)[0] == Outcome(9)
    assert run_jobs(functools.partial(power, n=3), [3], store=store)[0] == Outcome(27)


def test_things_without_a_text_of_their_own_are_told_apart_by_what_they_hold(tmp_path):
    store = ResultStore(tmp_path)
    for side in range(20):  # each is gone before the next is made, so their addresses are used again
        assert run_jobs(area, [Square(side)], store=store)[0] == Outcome(side * side)
    assert run_jobs(area, [Square(3)], store=store)[0] == Outcome(9, cached=True)


def test_function_and_jobs_are_identified_once(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        running, "content_hash", lambda *values: asked.append(values) or content_hash(*values)
    )
    run_jobs(square, [1, 2, 3], store=ResultStore(tmp_path))
    assert len(asked) == 4
    asked.clear()
    run_jobs(square, [1, 2, 3])
    assert asked == []


def test_what_cannot_be_identified_needs_a_key_before_anything_runs(tmp_path):
    store, ran = ResultStore(tmp_path / "store"), []
    with (tmp_path / "open").open("w") as file:

        def write(job):
            ran.append(job)
            return file.name

        with pytest.raises(TypeError, match=r"TextIOWrapper.* cannot be told.*key="):
            run_jobs(write, [1, 2], store=store)
        with pytest.raises(TypeError, match="key="):
            run_jobs(ran.append, [1, file], store=store)
        assert ran == []
        outcomes = run_jobs(write, [1, 2], store=store, key=lambda job: ("names", job))
        assert run_jobs(write, [2], store=store, key=lambda job: ("names", job))[0].cached
    assert ran == [1, 2]
    assert store.get(("names", 1)).value == outcomes[0].value
    assert not list((tmp_path / "store").glob(".*"))


def test_a_key_takes_the_place_of_all_else(tmp_path):
    store = ResultStore(tmp_path)
    run_jobs(square, [2], store=store, key=lambda x: np.full(2000, x))
    assert run_jobs(str, [2], store=store, key=lambda x: np.full(2000, x)) == [Outcome(4, cached=True)]
    assert run_jobs(square, [3], store=store, key=lambda x: np.full(2000, x)) == [Outcome(9)]


def test_store_keeps_what_it_is_given(tmp_path):
    store = ResultStore(tmp_path / "new" / "folder")
    assert store.get("missing") is None
    for value in (None, {"x": 1}, np.arange(5000.0)):
        store.put(("a", 1), value)
        np.testing.assert_equal(ResultStore(store.folder).get(("a", 1)).value, value)
    assert len(list(store.folder.iterdir())) == 1


def truncated(data):
    return data[:-7]


def flipped(data):
    return data[:50] + bytes([data[50] ^ 1]) + data[51:]


def unsealed(data):
    return pickle.dumps(("'a'", 1))


@pytest.mark.parametrize("damage", [truncated, flipped, unsealed])
def test_a_damaged_result_is_computed_again_and_said(tmp_path, damage):
    store = ResultStore(tmp_path)
    run_jobs(square, [7], store=store)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    with pytest.warns(RuntimeWarning, match=f"computed again: {file.name} is (truncated|damaged)"):
        assert run_jobs(square, [7], store=store) == [Outcome(49)]
    assert run_jobs(square, [7], store=store) == [Outcome(49, cached=True)]


def test_a_renamed_file_is_not_the_result_of_another_job(tmp_path):
    store = ResultStore(tmp_path)
    run_jobs(square, [7, 8], store=store)
    first, second = tmp_path.iterdir()
    first.replace(second)
    with pytest.warns(RuntimeWarning, match="another key"):
        outcomes = run_jobs(square, [7, 8], store=store)
    assert [o.value for o in outcomes] == [49, 64]


def test_a_file_that_cannot_be_read_is_said(tmp_path):
    store = ResultStore(tmp_path)
    run_jobs(square, [7], store=store)
    (file,) = tmp_path.iterdir()
    file.unlink()
    file.mkdir()
    with pytest.warns(RuntimeWarning) as said:
        assert run_jobs(square, [7], store=store) == [Outcome(49)]
    assert ["computed again" in str(w.message) for w in said] == [True, False]  # nor can it be written
    assert "cannot be stored" in str(said[1].message)


def refuse(*_):
    raise ArithmeticError("of another version")


class Moved:
    def __reduce__(self):
        return refuse, ()


@pytest.mark.parametrize("gone", ["Square", "refuse"])
def test_a_result_whose_class_has_gone_is_computed_again_and_said(tmp_path, monkeypatch, gone):
    store, value = ResultStore(tmp_path), Square(3) if gone == "Square" else Moved()
    store.put("a", value)
    if gone == "Square":
        monkeypatch.delattr(sys.modules[__name__], gone)
    with pytest.warns(RuntimeWarning, match="no longer loads.*(AttributeError|of another version)"):
        assert store.get("a") is None


def test_a_thousand_damaged_results_are_said_once_a_call(tmp_path):
    store = ResultStore(tmp_path)
    run_jobs(square, range(30), store=store)
    for _ in range(2):
        for file in tmp_path.iterdir():
            file.write_bytes(b"half a pickle")
        with pytest.warns(RuntimeWarning) as said:
            outcomes = run_jobs(square, range(30), store=store)
        assert len(said) == 1
        assert [o.value for o in outcomes] == [x * x for x in range(30)]


def test_a_full_disk_loses_no_result_and_is_said_once(tmp_path, monkeypatch):
    store = ResultStore(tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.warns(RuntimeWarning) as said:
            outcomes = run_jobs(square, [1, 2, 3], store=store)
    (warning,) = said
    assert str(warning.message).startswith(
        "results cannot be stored: OSError: [Errno 28] No space left on device"
    )
    assert [o.value for o in outcomes] == [1, 4, 9]
    assert list(tmp_path.iterdir()) == []


def test_a_result_that_cannot_be_pickled_is_kept_but_not_stored(tmp_path):
    store = ResultStore(tmp_path)
    with pytest.warns(RuntimeWarning, match="cannot be stored"):
        outcomes = run_jobs(lambda x: lambda: x, [1, 2], store=store)
    assert [o.value() for o in outcomes] == [1, 2]
    assert list(tmp_path.iterdir()) == []


def test_no_flipped_bit_is_taken_for_a_result(tmp_path):
    """Nothing is raised, nothing altered is returned, and every damage is said."""
    stored, rng = [np.arange(500.0), "text", {"d": 17, "scores": [0.5]}], np.random.default_rng(0)
    for number, value in enumerate(stored):
        ResultStore(tmp_path).put(number, value)
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        for bit in rng.choice(8 * len(whole), 100, replace=False):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            store = ResultStore(tmp_path)
            with pytest.warns(RuntimeWarning, match=path.name):
                found = [store.get(number) for number in range(len(stored))]
            assert [f is None for f in found].count(True) == 1
            kept = [(f.value, v) for f, v in zip(found, stored, strict=True) if f is not None]
            assert all(content_hash(value) == content_hash(v) for value, v in kept)
        path.write_bytes(whole)


def test_no_jobs():
    assert run_jobs(square, []) == []


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="ray is installed")
def test_ray_that_is_missing_names_the_extra():
    with pytest.raises(ImportError, match=r"lodim\[ray\]"):
        run_jobs(square, [1], ray="local")


@pytest.mark.slow  # a cluster starts
@pytest.mark.ray
def test_ray_gives_the_same_results(tmp_path):
    ray = pytest.importorskip("ray", reason="needs the extra `ray`")

    def fragile(x):
        if x == 1:
            raise ValueError("broken")
        if x == 4:
            os._exit(1)
        if x == 5:
            sys.exit("no more")
        return (i for i in range(3)) if x == 6 else x * x

    store, jobs = ResultStore(tmp_path), list(range(7))
    outcomes = run_jobs(fragile, jobs, ray="local", store=store)
    assert [o.value for o in outcomes] == [0, None, 4, 9, None, None, None]
    for index, why in (
        (1, "broken"),
        (4, "the worker died"),
        (5, "no more"),
        (6, "cannot leave its process"),
    ):
        assert why in outcomes[index].error.splitlines()[-1]
    cached = [o.cached for o in run_jobs(fragile, jobs[:4], ray="local", store=store)]
    assert cached == [True, False, True, True]
    _knock(*_parse(ray.get_runtime_context().gcs_address))  # as another process would, before it joins
