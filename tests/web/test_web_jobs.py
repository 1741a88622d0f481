"""The queue of jobs, with short programs in place of measurements."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from lodim.web.jobs import ENDED, JobQueue, Limits, QueueUnavailable

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX's")

WORD = "import json, sys, pathlib; folder = pathlib.Path(sys.argv[1])\n"
ANSWER = WORD + "(folder / 'outcome.json').write_text(json.dumps({'error': None, 'summary': 'forty-two'}))"
REFUSAL = (
    WORD
    + "(folder / 'outcome.json').write_text(json.dumps({'error': 'no numbers', 'summary': ''})); sys.exit(1)"
)
SLEEP = WORD + "import time; print('asleep', flush=True); time.sleep(600)"
# Starts a child of its own and says who both are.
CHILD = WORD + (
    "import os, subprocess\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "(folder / 'report.json').write_text(json.dumps([os.getpid(), child.pid]))\n"
)
FAMILY = CHILD + "child.wait()"


def run(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def wait_for(condition, seconds=120.0):
    late = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < late, "it took too long"
        time.sleep(0.02)


def over(queue, job, seconds=120.0):
    wait_for(lambda: queue.get(job.id).over, seconds)
    return queue.get(job.id)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not collected by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def make_queue(tmp_path):
    made = []

    def make(code=ANSWER, **options):
        made.append(JobQueue(tmp_path / "jobs", command=run(code), **options))
        return made[-1]

    yield make
    for queue in made:
        queue.close()


def test_job_runs_to_its_answer(make_queue):
    queue = make_queue()
    job = queue.submit("profile", "a table", {"n": 1})
    assert job.state == "queued"
    found = over(queue, job)
    assert (found.state, found.message, found.request) == ("done", "forty-two", {"n": 1})
    assert found.created <= found.started <= found.ended


def test_refusal_is_said_in_the_process_own_words(make_queue):
    queue = make_queue(REFUSAL)
    found = over(queue, queue.submit("profile", "t", {}))
    assert (found.state, found.message) == ("failed", "no numbers")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; print('half way'); sys.exit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "want of memory"),
        ("import os; os.kill(os.getpid(), 15)", "signal 15"),
    ],
)
def test_process_that_dies_without_an_answer(make_queue, code, said):
    queue = make_queue(code)
    job = queue.submit("profile", "t", {})
    found = over(queue, job)
    assert found.state == "failed"
    assert said in found.message
    assert ("half way" in queue.log(job.id)[0]) == ("half way" in code)


def test_program_that_is_not_there(tmp_path):
    queue = JobQueue(tmp_path / "jobs", command=(str(tmp_path / "nothing"),))
    found = over(queue, queue.submit("profile", "t", {}))
    assert found.state == "failed"
    assert "could not be started" in found.message
    queue.close()


def waits_for(path: Path) -> str:
    """Return the start of a program that goes on once there is a file."""
    return WORD + f"import time\nwhile not pathlib.Path({str(path)!r}).exists(): time.sleep(0.01)\n"


def test_one_at_a_time_and_in_order(make_queue, tmp_path):
    stamp = waits_for(tmp_path / "go") + (
        "began = time.monotonic(); time.sleep(0.2); ended = time.monotonic()\n"
        "(folder / 'outcome.json').write_text(json.dumps({'error': None, 'summary': f'{began} {ended}'}))"
    )
    queue = make_queue(stamp)
    jobs = [queue.submit("profile", str(n), {}) for n in range(3)]
    assert queue.before(jobs[2].id) == 2
    (tmp_path / "go").touch()
    spans = [tuple(map(float, over(queue, job).message.split())) for job in jobs]
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
    assert queue.before(jobs[2].id) == 0


def test_cancel_ends_the_whole_family(make_queue):
    queue = make_queue(FAMILY)
    job = queue.submit("profile", "t", {})
    wait_for(lambda: queue.file(job.id, "report.json") and queue.file(job.id, "report.json").read_text())
    pids = json.loads(queue.file(job.id, "report.json").read_text())
    assert all(map(alive, pids))
    assert queue.cancel(job.id, wait=120.0).state == "cancelled"
    wait_for(lambda: not any(map(alive, pids)))


def test_nothing_outlives_a_process_that_ends_by_itself(make_queue):
    queue = make_queue(CHILD)
    job = queue.submit("profile", "t", {})
    found = over(queue, job)
    assert found.state == "failed"
    pids = json.loads(queue.file(job.id, "report.json").read_text())
    wait_for(lambda: not any(map(alive, pids)))


def test_cancel_while_waiting(make_queue):
    queue = make_queue(SLEEP)
    first, second = queue.submit("profile", "1", {}), queue.submit("profile", "2", {})
    assert queue.cancel(second.id).state == "cancelled"
    wait_for(lambda: queue.get(first.id).state == "running")
    assert queue.cancel(first.id, wait=120.0).state == "cancelled"
    assert queue.cancel(first.id).state == "cancelled"  # again: nothing changes


def test_time_limit(make_queue):
    queue = make_queue(SLEEP)
    found = over(queue, queue.submit("profile", "t", {}, seconds=0.3))
    assert found.state == "failed"
    assert "seconds it was allowed" in found.message


def test_queue_is_bounded(make_queue):
    queue = make_queue(SLEEP, limits=Limits(waiting=2))
    first = queue.submit("profile", "1", {})
    wait_for(lambda: queue.get(first.id).state == "running")
    queue.submit("profile", "2", {})
    queue.submit("profile", "3", {})
    with pytest.raises(QueueUnavailable, match="2 jobs are waiting already"):
        queue.submit("profile", "4", {})


def test_restart_finds_the_finished_and_marks_the_rest(tmp_path):
    folder = tmp_path / "jobs"
    before = JobQueue(folder, command=run(ANSWER))
    done = before.submit("profile", "done", {})
    over(before, done)
    before.command = run(SLEEP)
    running = before.submit("profile", "running", {})
    before.submit("profile", "waiting", {})
    wait_for(lambda: before.get(running.id).state == "running")
    before.close()
    after = JobQueue(folder, command=run(ANSWER))
    states = {job.title: job.state for job in after.jobs()}
    assert states == {"done": "done", "running": "interrupted", "waiting": "interrupted"}
    assert "Start it again" in after.get(running.id).message
    assert after.get(done.id).message == "forty-two"
    after.close()


SERVER = """
import sys, time
from lodim.web.jobs import JobQueue
queue = JobQueue(sys.argv[1], command=(sys.executable, "-c", sys.argv[2]))
print(queue.submit("profile", "t", {}).id, flush=True)
time.sleep(600)
"""


def test_killed_server_leaves_an_interrupted_job(tmp_path):
    """The work itself ends with the server: see test_worker_ends_with_its_server."""
    folder = tmp_path / "jobs"
    watch = "import os\nprint('here', flush=True); os.read(0, 1)"  # ends when the server's end of its input closes
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder), watch], stdout=subprocess.PIPE, text=True
    )
    try:
        id = server.stdout.readline().strip()
        wait_for(lambda: json.loads((folder / id / "job.json").read_text())["state"] == "running")
        log = folder / id / "log.txt"  # a child that was only just forked would hold the lock as well
        wait_for(lambda: log.exists() and log.read_text())
        blocked = JobQueue(folder, command=run(ANSWER))
        assert blocked.get(id).state == "running"  # of a server that lives, so it is left alone
        with pytest.raises(QueueUnavailable, match="Another lodim server"):
            blocked.submit("profile", "t", {})
        blocked.close()
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
        server.stdout.close()
    after = JobQueue(folder, command=run(ANSWER))
    assert after.get(id).state == "interrupted"
    after.close()


def test_worker_ends_with_its_server(tmp_path):
    """The real worker: its server's end of standard input closes, and it is gone."""
    evidence = str(tmp_path / "evidence")
    job = {
        "kind": "claim",
        "memory": 4 << 30,
        "request": {"name": "none/such", "seed": 0, "evidence": evidence},
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-P", "-m", "lodim.web.worker", str(tmp_path)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    process.stdin.close()
    assert process.wait(120) == -signal.SIGKILL


def test_broken_folder_is_removed_and_strange_files_are_left(tmp_path):
    folder = tmp_path / "jobs"
    (folder / ("a" * 22)).mkdir(parents=True)
    (folder / "notes").mkdir()
    queue = JobQueue(folder)
    assert not (folder / ("a" * 22)).exists()
    assert (folder / "notes").exists()
    assert queue.jobs() == []
    queue.close()


def test_work_files_are_removed_at_the_end(make_queue, tmp_path):
    queue = make_queue(ANSWER + "; (folder / 'rest').mkdir(); (folder / 'rest' / 'x').write_text('x')")
    source = tmp_path / "table"
    source.write_bytes(b"1,2\n")
    with source.open("rb") as file:
        job = queue.submit("profile", "t", {}, files={"upload.csv": file})
    over(queue, job)
    left = {path.name for path in (tmp_path / "jobs" / job.id).iterdir()}
    assert left == {"job.json", "outcome.json", "log.txt"}
    assert (tmp_path / "jobs").stat().st_mode & 0o777 == 0o700


def test_old_and_surplus_jobs_are_removed(make_queue):
    clock = [datetime(2030, 1, 1, tzinfo=UTC)]
    queue = make_queue(now=lambda: clock[0], limits=Limits(kept=2, days=7.0))
    jobs = []
    for n in range(4):
        jobs.append(queue.submit("profile", str(n), {}))
        over(queue, jobs[-1])
        clock[0] += timedelta(hours=1)
    queue.prune()
    assert [job.title for job in queue.jobs()] == ["3", "2"]
    clock[0] += timedelta(days=7, minutes=-90)
    queue.prune()
    assert [job.title for job in queue.jobs()] == ["3"]


def test_delete_of_a_running_job(make_queue, tmp_path):
    queue = make_queue(SLEEP)
    job = queue.submit("profile", "t", {})
    wait_for(lambda: queue.get(job.id).state == "running")
    queue.delete(job.id)
    assert queue.get(job.id) is None
    assert not (tmp_path / "jobs" / job.id).exists()


@pytest.mark.parametrize(
    "id",
    ["", "..", "../..", "a" * 21, "a" * 23, "/etc/passwd", "a" * 21 + "/", "lock", "%2e%2e", "a" * 22 + "\n"],
)
def test_ids_that_are_no_tokens(make_queue, id):
    assert make_queue().get(id) is None


def test_ids_do_not_repeat_and_are_safe_in_addresses(make_queue):
    queue = make_queue(limits=Limits(waiting=50))
    ids = {queue.submit("profile", "t", {}).id for _ in range(8)}
    assert len(ids) == 8
    assert all(len(id) == 22 and id.replace("-", "").replace("_", "").isalnum() for id in ids)
    for id in ids:
        queue.cancel(id)


def test_progress_and_log_while_it_runs(make_queue, tmp_path):
    code = waits_for(tmp_path / "go") + (
        "print('x' * 50); print('the end', flush=True)\n"
        "(folder / 'progress.json').write_text(json.dumps({'done': 1.7, 'text': 'training'})); time.sleep(600)"
    )
    queue = make_queue(code)
    job = queue.submit("profile", "t", {})
    assert queue.progress(job.id).done == 0.0
    (tmp_path / "go").touch()
    wait_for(lambda: queue.progress(job.id).text == "training")
    assert queue.progress(job.id).done == 1.0  # never beyond the end of the bar
    assert queue.log(job.id, most=8) == ("the end\n", 59)
    assert queue.log(job.id, 51) == ("the end\n", 59)
    assert queue.log(job.id, 59) == ("", 59)


def test_only_known_files_are_handed_out(make_queue):
    queue = make_queue(WORD + "(folder / 'report.html').write_text('x'); (folder / 'other').write_text('x')")
    job = queue.submit("profile", "t", {})
    over(queue, job)
    assert queue.file(job.id, "report.html").read_text() == "x"
    assert queue.file(job.id, "report.json") is None
    assert queue.file(job.id, "../lock") is None


def test_states_on_disk_are_never_half_written(make_queue, tmp_path):
    """A reader beside the queue finds whole records at all times."""
    queue = make_queue("pass", limits=Limits(waiting=100))
    seen, wrong, stop, last = set(), [], threading.Event(), False

    def read():
        nonlocal last
        while not last:
            last = stop.is_set()  # all is looked at once more in the end
            for path in (tmp_path / "jobs").glob("*/job.json"):
                text = path.read_text()
                try:
                    seen.add(json.loads(text)["state"])
                except (ValueError, KeyError):
                    wrong.append(text)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(5):
        over(queue, queue.submit("profile", "t", {}))
    stop.set()
    reader.join()
    assert wrong == []
    assert seen <= {"queued", "running", *ENDED}
    assert "failed" in seen
