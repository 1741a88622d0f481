"""Independent jobs: order, failures, the store, interruption; the same on every backend."""

from __future__ import annotations

import importlib.util
import os

import pytest
import torch
from joblib import parallel_config

from lodim.parallel import JobsInterrupted, Outcome, ResultStore, run_jobs


def square(x):
    return x * x


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


def test_threads_of_this_process_leave_its_number_of_threads_alone():
    def where(_):
        return os.getpid(), torch.get_num_threads()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with parallel_config("threading"):
            outcomes = run_jobs(where, range(4), n_jobs=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert {o.value for o in outcomes} == {(os.getpid(), 2)}


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
        run_jobs(job, [0, 1, 2, 3], store=store)
    assert [o.done for o in caught.value.outcomes] == [True, True, False, False]
    assert [o.value for o in caught.value.outcomes[:2]] == [0, 1]
    ran.append("again")
    assert [o.value for o in run_jobs(job, [0, 1, 2, 3], store=store)] == [0, 1, 2, 3]
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


def test_store_survives_damage_and_other_keys(tmp_path):
    store = ResultStore(tmp_path)
    assert store.get("missing") is None
    store.put("a", {"x": 1})
    assert store.get("a").value == {"x": 1}
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"half a pickle")
    assert store.get("a") is None
    store.put("a", 2)
    assert store.get("a").value == 2
    assert len(list(tmp_path.iterdir())) == 1


def test_no_jobs():
    assert run_jobs(square, []) == []


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="ray is installed")
def test_ray_that_is_missing_names_the_extra():
    with pytest.raises(ImportError, match=r"lodim\[ray\]"):
        run_jobs(square, [1], ray="local")


@pytest.mark.slow  # a cluster starts
@pytest.mark.ray
def test_ray_gives_the_same_results(tmp_path):
    pytest.importorskip("ray", reason="needs the extra `ray`")

    def fragile(x):
        if x == 1:
            raise ValueError("broken")
        return x * x

    store = ResultStore(tmp_path)
    outcomes = run_jobs(fragile, list(range(4)), ray="local", store=store)
    assert [o.value for o in outcomes] == [0, None, 4, 9]
    assert "broken" in outcomes[1].error
    assert [o.cached for o in run_jobs(fragile, list(range(4)), ray="local", store=store)] == [
        True,
        False,
        True,
        True,
    ]
