"""Processes that die, leave, cannot be reached or cannot be sent the work; and every option ``n_jobs`` with 2.

What runs in a process is defined inside its test: so it travels by value, and no worker has to find this file.
"""

from __future__ import annotations

import ast
import importlib.util
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import lodim
from lodim.claims import run_claims
from lodim.cli import app
from lodim.landscape import LandscapeDimension, compare
from lodim.neighbors import NeighborGraph, search_shards, split_rows
from lodim.parallel import ResultStore, run_jobs
from lodim.parallel.cluster import _parse, require_cluster
from lodim.parallel.jobs import count_processes
from lodim.profiling.models import choose_model
from lodim.training import Recipe, Task

SOURCE = Path(lodim.__file__).parent
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals")
PATIENCE = 120  # seconds on a busy machine; what is waited for takes a fraction of one


def by_name(outcomes, jobs):
    return dict(zip(jobs, outcomes, strict=True))


# How many


@pytest.mark.parametrize("n_jobs", [0, -3, True])
def test_a_number_of_processes_that_is_none_is_refused_before_anything_runs(n_jobs):
    ran = []
    with pytest.raises((ValueError, TypeError), match="n_jobs must be"):
        run_jobs(ran.append, [1, 2], n_jobs=n_jobs)
    assert ran == []


@pytest.mark.parametrize("n_jobs", [1.5, "2", None, [2]])
def test_what_is_no_number_of_processes_is_a_type_error(n_jobs):
    with pytest.raises(TypeError, match="n_jobs must be an integer"):
        count_processes(n_jobs)


def test_minus_one_takes_every_core():
    outcomes = run_jobs(lambda _: os.getpid(), [1, 2], n_jobs=-1)
    assert (outcomes[0].value == os.getpid()) == (len(os.sched_getaffinity(0)) == 1)


# Jobs that die


@POSIX
def test_whatever_a_job_does_the_others_are_kept_and_it_is_reported():
    ways = {
        "leaves": ("exit code 3", lambda: os._exit(3)),
        "killed": ("killed or out of memory", lambda: os.kill(os.getpid(), 9)),
        "crashes": ("Segmentation fault", lambda: os.kill(os.getpid(), signal.SIGSEGV)),
        "sys.exit": ("SystemExit: 4", lambda: sys.exit(4)),
        "Ctrl-C of its own": ("KeyboardInterrupt", lambda: (_ for _ in ()).throw(KeyboardInterrupt)),
        "memory": ("MemoryError", lambda: bytearray(1 << 60)),
        "no value to send": ("a generator, cannot leave its process", lambda: (x for x in range(3))),
        "fine": (None, lambda: 5),
    }

    def unreadable():
        class Unreadable:
            def __reduce__(self):
                return int, ("seven",)

        return Unreadable()

    def own_exception():
        class TwoArgumentsError(BaseException):
            def __init__(self, first, second):
                super().__init__(first)

        raise TwoArgumentsError("of its own", 2)

    ways["no value to read"] = ("cannot be read here: ValueError", unreadable)
    ways["exception"] = ("TwoArgumentsError: of its own", own_exception)
    jobs = ["fine", *(way for way in ways if way != "fine"), "fine"]
    outcomes = run_jobs(lambda job: ways[job][1](), jobs, n_jobs=2)
    for job, outcome in zip(jobs, outcomes, strict=True):
        assert outcome.done
        if job == "fine":
            assert outcome.value == 5
        else:
            assert ways[job][0] in outcome.error.splitlines()[-1], job
    assert "the worker died" in outcomes[1].error


def test_the_dead_are_run_once_more_and_nobody_else_is(tmp_path):
    def job(name):
        with (tmp_path / name).open("a") as file:
            file.write(".")
        if name == "dies" or (name == "dies once" and (tmp_path / name).read_text() == "."):
            os._exit(1)
        return name

    jobs = ["dies", "a", "dies once", "b", "c"]
    found = by_name(run_jobs(job, jobs, n_jobs=2), jobs)
    assert {name: outcome.value for name, outcome in found.items()} == dict(
        zip(jobs, [None, "a", "dies once", "b", "c"], strict=True)
    )
    assert "and so did another that ran this job alone" in found["dies"].error
    assert [len((tmp_path / name).read_text()) for name in jobs] == [2, 1, 2, 1, 1]


def test_in_this_process_leaving_is_a_failure_too():
    outcomes = run_jobs(lambda job: sys.exit("no more") if job == 1 else job, [0, 1, 2])
    assert [o.value for o in outcomes] == [0, None, 2]
    assert outcomes[1].error.endswith("SystemExit: no more\n")


def test_a_full_disk_loses_no_outcome_of_the_processes(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(RuntimeWarning, match="cannot be stored: OSError.*No space") as said:
        outcomes = run_jobs(lambda x: x + 1, [1, 2, 3], n_jobs=2, store=ResultStore(tmp_path))
    assert len(said) == 1
    assert [o.value for o in outcomes] == [2, 3, 4]
    assert list(tmp_path.iterdir()) == []


# What travels, and what a worker finds around it


def test_what_cannot_travel_is_said_before_anything_runs(tmp_path):
    lock, ran = threading.Lock(), tmp_path / "ran"

    def holds_a_lock(job):
        ran.touch()
        return lock.locked()

    with pytest.raises(TypeError, match=r"function .*holds_a_lock cannot be sent.*lock.*n_jobs=1"):
        run_jobs(holds_a_lock, [1, 2], n_jobs=2)
    with pytest.raises(TypeError, match=r"job 1 \(<unlocked.* cannot be sent.*lock.*n_jobs=1"):
        run_jobs(lambda job: ran.touch(), [1, lock], n_jobs=2)
    assert not ran.exists()
    assert run_jobs(holds_a_lock, [1])[0].value is False


def test_a_function_that_a_worker_cannot_find_fails_its_jobs_and_says_why(tmp_path, monkeypatch):
    path = tmp_path / "found_nowhere_else.py"
    path.write_text("def job(x):\n    return x\n")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)  # but its folder is no place to import from
    spec.loader.exec_module(module)
    outcomes = run_jobs(module.job, [1, 2], n_jobs=2)
    assert ["No module named 'found_nowhere_else'" in o.error for o in outcomes] == [True, True]


def test_a_worker_stands_where_its_caller_stands(tmp_path, monkeypatch):
    def around(_):
        from found_here import answer

        return os.getpid(), os.getcwd(), os.environ["LODIM_TEST"], answer

    here = {}
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "found_here.py").write_text(f"answer = {name!r}\n")
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("LODIM_TEST", name)
            patch.setattr(sys, "path", [str(folder), *sys.path])
            patch.delitem(sys.modules, "found_here", raising=False)
            patch.setitem(sys.modules, "found_here", importlib.import_module("found_here"))
            here[name] = [o.value for o in run_jobs(around, [1, 2], n_jobs=2)]
    for name, found in here.items():
        assert {rest for _, *rest in map(tuple, found) for rest in [tuple(rest)]} == {
            (str(tmp_path / name), name, name)
        }


def test_workers_wait_for_the_next_call():
    calls = [{o.value for o in run_jobs(lambda _: os.getpid(), [1, 2], n_jobs=2)} for _ in range(2)]
    assert calls[0] == calls[1]


def test_workers_never_run_what_a_module_was_before(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "edited_meanwhile.py"
    for number in (1, 2):
        path.write_text(f"def job(x):\n    return {number}\n")
        os.utime(path, (number, number))
        if number == 1:
            module = importlib.import_module(path.stem)
        else:
            importlib.reload(module)
        assert [o.value for o in run_jobs(module.job, [1, 2], n_jobs=2)] == [number, number]


def test_jobs_of_jobs_run_where_they_are():
    def nested(_):
        return os.getpid(), [o.value for o in run_jobs(lambda _: os.getpid(), [1, 2, 3], n_jobs=2)]

    for outcome in run_jobs(nested, [1, 2], n_jobs=2):
        own, pids = outcome.value
        assert pids == [own] * 3


def nested_values(queue):
    queue.put([outcome.value for outcome in run_jobs(abs, [-1, -2], n_jobs=2)])


@POSIX
def test_a_process_that_may_start_none_runs_its_jobs_itself():
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=nested_values, args=(queue,), daemon=True)
    process.start()
    process.join(PATIENCE)
    assert not queue.empty()
    assert queue.get() == [1, 2]


def test_arrays_are_a_jobs_own(tmp_path):
    def add(array):
        array += 1  # joblib's memory maps are read-only
        return array.sum()

    jobs = [np.zeros(300_000), np.ones(300_000)]
    assert [o.value for o in run_jobs(add, jobs, n_jobs=2)] == [300_000.0, 600_000.0]
    assert jobs[0].sum() == 0


# Processes end with the one that started them


def is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # one that has ended, but that nobody has asked about, is still listed
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def wait_for(what):
    end = time.monotonic() + PATIENCE
    while not (found := what()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


SWEEP = """
    import os, signal, sys, time

    signal.signal(signal.SIGINT, signal.default_int_handler)  # which whoever started the tests may have ignored

    from pathlib import Path
    from lodim.parallel import JobsInterrupted, ResultStore, run_jobs

    folder = Path(sys.argv[1])

    def job(x):
        if x > 1:
            (folder / f"{os.getpid()}.pid").touch()
            time.sleep(600)
        return 10 * x

    try:
        run_jobs(job, range(6), n_jobs=2, store=ResultStore(folder / "store"), key=int)
    except JobsInterrupted as interrupt:
        print(interrupt, [o.value for o in interrupt.outcomes])
"""


@POSIX
@pytest.mark.parametrize(
    ("number", "whom", "code"),
    [
        (signal.SIGINT, os.kill, 0),
        (signal.SIGINT, os.killpg, 0),  # as a terminal does
        (signal.SIGTERM, os.kill, -signal.SIGTERM),
        (signal.SIGKILL, os.kill, -signal.SIGKILL),
    ],
)
def test_no_worker_outlives_its_caller(tmp_path, number, whom, code):
    caller = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SWEEP), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert wait_for(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
        workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
        assert all(map(is_there, workers))
        whom(caller.pid, number)
        said, complaints = caller.communicate(timeout=PATIENCE)
        assert caller.returncode == code
        assert wait_for(lambda: not any(map(is_there, workers)))
    finally:
        if caller.poll() is None:
            caller.kill()
    assert "Traceback" not in complaints
    if number == signal.SIGINT:
        assert said == "interrupted with 2 of 6 jobs done [0, 10, None, None, None, None]\n"
    store = ResultStore(tmp_path / "store")
    assert [store.get(x).value for x in (0, 1)] == [0, 10]


def test_an_error_in_on_done_ends_the_workers_that_are_at_work(tmp_path):
    def job(x):
        if x:
            (tmp_path / f"{os.getpid()}.pid").touch()
            time.sleep(600)

    def fail(index, outcome):
        wait_for(lambda: list(tmp_path.glob("*.pid")))
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        run_jobs(job, [0, 1], n_jobs=2, on_done=fail)
    (path,) = tmp_path.glob("*.pid")
    assert not is_there(int(path.stem))


# Everything that takes n_jobs


def plane(n=200, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2)) @ rng.normal(size=(2, 6)) + 0.01 * rng.normal(size=(n, 6))
    return X, (X[:, 0] > 0).astype(int)


def test_all_that_takes_n_jobs_is_tried_here():
    found = set()
    for path in SOURCE.rglob("*.py"):
        if SOURCE / "parallel" in path.parents:
            continue
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "n_jobs" in text else ():
            if isinstance(node, ast.FunctionDef):
                found |= {node.name for a in (*node.args.args, *node.args.kwonlyargs) if a.arg == "n_jobs"}
            if isinstance(node, ast.ClassDef):
                fields = [f.target.id for f in node.body if isinstance(f, ast.AnnAssign)]
                found |= {node.name} if "n_jobs" in fields else set()
    tried = {"profile", "run_claims", "search_shards", "from_shards", "compare", "RunOptions"}
    # in tests/generative, tests/representation and tests/shapes, beside what they must give
    tried |= {"PerturbedLikelihoodModel", "pretraining_gain", "shape_set"}
    within = {
        "measure_landscape",
        "_measure_landscape",
        "graph_parts",
        "_load_for_model",
        "__init__",
        "_Runner",
    }
    assert found == tried | within


@pytest.mark.slow
def test_profile():
    X, y = plane()
    one, two = (lodim.profile(X, y, budget=5, n_jobs=n) for n in (1, 2))
    assert two.landscape.status == one.landscape.status
    assert two.landscape.n_parameters == one.landscape.n_parameters
    assert two.data == one.data


@pytest.mark.slow
def test_the_command_profile(tmp_path, monkeypatch):
    X, y = plane()
    np.savetxt(tmp_path / "plane.csv", np.c_[X, y], delimiter=",", header="a,b,c,d,e,f,y", comments="")
    (tmp_path / "own_models.py").write_text(
        "from torch import nn\n\ndef small(columns, outputs):\n    return nn.Linear(columns, outputs)\n"
    )
    monkeypatch.chdir(tmp_path)
    for model in ("mlp", "own_models:small"):
        words = ["profile", "plane.csv", "--target", "y", "--budget", "5s", "--jobs", "2", "--model", model]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        assert "search for the model" not in done.output


@pytest.mark.slow  # a claim runs
def test_claims():
    name = "objective-landscapes/toy"
    (one,), (two,) = (run_claims([name], out=None, n_jobs=n) for n in (1, 2))
    assert (two.verdict, two.figures) == (one.verdict, one.figures)
    done = CliRunner().invoke(app, ["claims", "run", name, "--dry", "--jobs", "2"])
    assert done.exit_code == 0, done.output


@pytest.mark.trains
def test_landscape_dimension():
    X, y = plane()
    X = torch.as_tensor(X, dtype=torch.float32)
    task = Task.from_arrays(X[:120], torch.as_tensor(y[:120]), X[120:], torch.as_tensor(y[120:]))
    found = LandscapeDimension(
        lambda: torch.nn.Linear(6, 2), task=task, recipe=Recipe(epochs=3), n_jobs=2, max_runs=6
    ).fit()
    assert len(found.direct_runs()) >= 1
    assert all(run.stopped != "failed" for run in found.direct_runs())


@pytest.mark.trains
def test_compare():
    X, y = (torch.as_tensor(part, dtype=kind) for part, kind in zip(plane(), (torch.float32, torch.int64)))
    data = (X[:120], y[:120], X[120:], y[120:])
    found = [
        compare(
            lambda: torch.nn.Linear(6, 2),
            data,
            ["subspace"],
            [100],
            recipe=Recipe(epochs=2),
            lr_grid=[1.0],
            n_seeds=1,
            n_jobs=n,
        )
        for n in (1, 2)
    ]
    assert not found[1].failed
    assert (
        found[1]
        .to_frame()
        .drop(columns="seconds", errors="ignore")
        .equals(found[0].to_frame().drop(columns="seconds", errors="ignore"))
    )


def test_shards():
    X = plane(400)[0]
    shards = split_rows(X, 3)
    one, two = (search_shards(shards, X[:20] + 0.1, 5, n_jobs=n) for n in (1, 2))
    np.testing.assert_array_equal(two, one)
    one, two = (NeighborGraph.from_shards(shards, 5, 30, n_jobs=n, random_state=0) for n in (1, 2))
    np.testing.assert_array_equal(two.dist, one.dist)
    np.testing.assert_array_equal(two.idx, one.idx)


def test_the_models_of_a_profile_travel():
    def own():
        return torch.nn.Linear(64, 10)

    for model in (None, "linear", "lenet", own, lambda columns, outputs: torch.nn.Linear(columns, outputs)):
        made = choose_model(
            model, 1 * 16 * 16 if model == "lenet" else 64, 10, (1, 16, 16) if model == "lenet" else None
        )
        (outcome, _) = run_jobs(
            lambda make: sum(p.numel() for p in make().parameters()), [made.make] * 2, n_jobs=2
        )
        assert outcome.value == sum(p.numel() for p in made.make().parameters())


def test_a_model_of_a_script_travels(tmp_path):
    script = """\
        from torch import nn
        from lodim.parallel import run_jobs
        from lodim.profiling.models import choose_model

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 2)

            def forward(self, x):
                return self.layer(x)

        def count(make):
            return sum(p.numel() for p in make().parameters())

        print([o.value for o in run_jobs(count, [choose_model(Net, 4, 2).make], n_jobs=2)])
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))  # with no guard of __main__
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout) == (0, "[10]\n"), done.stderr


# A cluster that is not there


class NoRay:
    """Stands for Ray, which would try for minutes."""

    @staticmethod
    def is_initialized():
        return False

    @staticmethod
    def init(**_):
        raise ConnectionError("Could not find any running Ray instance.\nLong advice")


@pytest.fixture
def no_ray(monkeypatch):
    from lodim.parallel import cluster

    monkeypatch.setattr(cluster, "require", lambda module, extra: NoRay)
    monkeypatch.setattr(cluster, "_PATIENCE", 1.0)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def free_port():
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return line.getsockname()[1]


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "ray://127.0.0.1:{}/"])
def test_a_cluster_that_does_not_answer_is_said(no_ray, form):
    ran = []
    with pytest.raises(ConnectionError, match=r"no Ray cluster answers at 127\.0\.0\.1:"):
        run_jobs(lambda job: job, [1, 2], ray=form.format(free_port()))
    assert ran == []


@pytest.mark.parametrize("answer", [None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_answers_but_is_no_cluster_is_said(no_ray, answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            line, _ = server.accept()
            with line:
                if answer is None:
                    line.recv(100)
                    over.wait()
                line.sendall(answer or b"")

        over = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ConnectionError, match=r"no Ray cluster answers|not a Ray cluster"):
            require_cluster(f"127.0.0.1:{server.getsockname()[1]}")
        over.set()
        thread.join()


def test_what_speaks_as_ray_does_is_handed_to_ray(no_ray):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            line, _ = server.accept()
            with line:
                line.sendall(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
                line.recv(100)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(
            ConnectionError, match=r"no Ray cluster at .*: Could not find any running Ray instance\.$"
        ):
            require_cluster(f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()


def test_auto_without_a_cluster_says_so(no_ray, monkeypatch):
    with pytest.raises(ConnectionError, match="no Ray cluster at 'auto': Could not find"):
        require_cluster("auto")
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    with pytest.raises(ConnectionError, match="no Ray cluster answers"):
        require_cluster("auto")


@pytest.mark.parametrize("address", ["", "somewhere", "host:port", "host:99999999", "ray://"])
def test_what_is_no_address_is_refused(no_ray, address):
    with pytest.raises(ValueError, match="ray must be"):
        require_cluster(address)
    with pytest.raises(ValueError, match="ray must be"):
        _parse(6379)


def test_the_command_says_that_no_cluster_answers_before_it_measures(no_ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X, y = plane()
    np.savetxt("plane.csv", np.c_[X, y], delimiter=",", header="a,b,c,d,e,f,y", comments="")
    words = ["profile", "plane.csv", "--target", "y", "--budget", "5s", "--ray", f"127.0.0.1:{free_port()}"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 3
    assert "no Ray cluster answers at 127.0.0.1" in done.output
    assert "Internal" not in done.output


def test_a_process_that_starts_is_deaf_to_interrupts_whoever_started_what_before():
    code = (
        "import signal\nfrom multiprocessing import resource_tracker\nfrom lodim.parallel import workers\n"
        "with workers._interrupts_blocked():\n"
        "    resource_tracker.ensure_running()\n"
        "    print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["True"]
