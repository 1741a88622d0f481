"""Files are whole or not there, whatever happens while they are written; sealed ones know when they were changed."""

import ast
import errno
import io
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import lodim
from lodim import files
from lodim.cli import app
from lodim.files import DamagedFileError, check_archive, open_whole, read_sealed, write_whole
from lodim.profiling import Profile

SOURCE = Path(files.__file__).parent


@pytest.fixture(autouse=True)
def nothing_is_left_behind(tmp_path):
    yield
    left = [
        path.name for path in tmp_path.rglob("*") if path.name.endswith(".part") or path.name[:3] == "tmp"
    ]
    assert left == []


@contextmanager
def full_disk(room):
    """No file may grow beyond so many bytes: the system refuses the write that would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def an_ordinary_user():
    """Whoever runs the tests is not the administrator for a while, to whom everything is allowed."""
    if os.geteuid() == 0:
        os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        if os.getresuid()[2] == 0:
            os.setresuid(0, 0, 0)


@contextmanager
def process(code, *arguments):
    """Run code that prints a line when it has begun and goes on when it is given one."""
    command = [sys.executable, "-c", f"import sys\nfrom lodim.files import *\n{code}", *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


# ---------------------------------------------------------------- paths


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize(
    "name", ["plain.txt", "with space", "größe 量.json", "[a]*?", "-", ".hidden", "x" * 255]
)
def test_text_and_bytes_are_written_under_any_name(tmp_path, monkeypatch, kind, name):
    monkeypatch.chdir(tmp_path)
    for place in (kind(tmp_path / name), kind(name)):
        write_whole(place, "größe\n")
        assert (tmp_path / name).read_bytes() == "größe\n".encode()
        write_whole(place, b"\0\xff")
        assert (tmp_path / name).read_bytes() == b"\0\xff"
    assert os.listdir(tmp_path) == [name]


def test_names_are_long_in_bytes_not_in_letters(tmp_path):
    names = ["ü" * 127, "😀" * 63, "量" * 84 + "x"]
    for name in names:
        write_whole(tmp_path / name, name)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict(zip(names, names))
    with pytest.raises(OSError, match="name too long"):
        write_whole(tmp_path / ("x" * 256), "")


@pytest.mark.parametrize("target", ["there", "not there yet"])
def test_a_link_stays_and_what_it_names_is_replaced(tmp_path, target):
    place, link = tmp_path / "folder" / target, tmp_path / "link"
    place.parent.mkdir()
    (tmp_path / "folder" / "there").write_text("former")
    link.symlink_to(Path("folder") / target)
    write_whole(link, "new")
    assert link.is_symlink()
    assert place.read_text() == "new"
    assert not place.is_symlink()


def test_what_cannot_be_a_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("former")
    for place, kind in (
        (tmp_path, IsADirectoryError),
        (tmp_path / "nowhere" / "file", FileNotFoundError),
        (tmp_path / "file" / "file", NotADirectoryError),
        (tmp_path / "loop", OSError),
        (f"{tmp_path}/results/", IsADirectoryError),
    ):
        with pytest.raises(kind) as told:
            write_whole(place, "new")
        assert told.value.filename == str(place)
        assert ".part" not in str(told.value)
    assert (tmp_path / "file").read_text() == "former"
    assert not (tmp_path / "results").exists()


# ---------------------------------------------------------------- permissions


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_has_the_usual_permissions_and_a_former_one_keeps_its_own(tmp_path):
    former = os.umask(0o027)
    try:
        write_whole(tmp_path / "usual", "")
        write_whole(tmp_path / "private", "", private=True)
    finally:
        os.umask(former)
    assert mode(tmp_path / "usual") == 0o640
    assert mode(tmp_path / "private") == 0o600
    for kept in (0o664, 0o755, 0o600):
        (tmp_path / "usual").chmod(kept)
        write_whole(tmp_path / "usual", "again")
        assert mode(tmp_path / "usual") == kept
    (tmp_path / "private").chmod(0o644)
    with open_whole(tmp_path / "private", private=True) as file:
        assert mode(Path(file.name)) == 0o600
    assert mode(tmp_path / "private") == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only the administrator can give files away")
def test_the_administrator_takes_nobodys_file_away(tmp_path):
    write_whole(tmp_path / "theirs", "former")
    os.chown(tmp_path / "theirs", 65534, 65533)
    write_whole(tmp_path / "theirs", "new")
    status = (tmp_path / "theirs").stat()
    assert (status.st_uid, status.st_gid) == (65534, 65533)


def test_a_folder_or_a_file_that_is_write_protected_is_a_clear_error():
    with tempfile.TemporaryDirectory() as folder:
        file, locked = Path(folder, "file"), Path(folder, "locked", "file")
        locked.parent.mkdir()
        for place in (file, locked):
            place.write_text("former")
        if os.geteuid() == 0:
            for path in Path(folder).rglob("*"):
                os.chown(path, 65534, 65534)
            os.chown(folder, 65534, 65534)
        file.chmod(0o444)
        locked.parent.chmod(0o555)
        with an_ordinary_user():
            with pytest.raises(PermissionError) as told:
                write_whole(file, "new")
            assert str(told.value) == f"[Errno 13] Permission denied: '{file}'"
            for place in (locked, locked.with_name("another")):
                with pytest.raises(PermissionError) as told:
                    write_whole(place, "new")
                said = f"Permission denied (a file is first written beside its place): '{place}'"
                assert str(told.value) == f"[Errno 13] {said}"
        assert file.read_text() == locked.read_text() == "former"
        assert sorted(os.listdir(folder)) == ["file", "locked"]
        assert os.listdir(locked.parent) == ["file"]


# ---------------------------------------------------------------- devices


def test_what_cannot_be_replaced_is_written_to(tmp_path):
    write_whole("/dev/null", "gone")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        write_whole("/dev/full", "too much")
    os.mkfifo(tmp_path / "pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    with open_whole(tmp_path / "pipe", sealed=True) as file:
        np.save(file, np.arange(3))
    reader.join()
    write_whole(tmp_path / "copy", got[0])
    np.testing.assert_array_equal(np.load(io.BytesIO(read_sealed(tmp_path / "copy"))), [0, 1, 2])
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("into", ["pipe", "file"])
@pytest.mark.parametrize("place", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "out"])
def test_standard_output_gets_it_between_what_is_printed_before_and_after(tmp_path, place, into):
    code = "print('before', flush=True); write_whole(sys.argv[1], 'written\\n'); print('after')"
    command = [sys.executable, "-c", f"import sys\nfrom lodim.files import *\n{code}", str(place)]
    with (tmp_path / "out").open("wb") if into == "file" else nullcontext(subprocess.PIPE) as out:
        ended = subprocess.run(command, stdout=out, cwd=tmp_path, check=True, timeout=60)
    found = (tmp_path / "out").read_bytes() if into == "file" else ended.stdout
    if (place, into) == ("out", "pipe"):  # a file like any other
        assert found == b"before\nafter\n"
    else:
        assert found == b"before\nwritten\nafter\n"


# ---------------------------------------------------------------- failures


def test_an_error_or_an_interruption_leaves_the_former_file_or_none(tmp_path):
    (tmp_path / "there").write_text("former")
    for error in (ValueError, KeyboardInterrupt, SystemExit, OSError(errno.ENOSPC, "full")):
        for name in ("there", "new"):
            kind = error if isinstance(error, type) else type(error)
            with pytest.raises(kind), open_whole(tmp_path / name) as file:  # noqa: PT012
                file.write(b"x" * 100_000)
                raise error
    assert os.listdir(tmp_path) == ["there"]
    assert (tmp_path / "there").read_text() == "former"
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "there", "\ud800")
    assert (tmp_path / "there").read_text() == "former"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_is_found_full_at_the_end_leaves_the_former_file(tmp_path, monkeypatch, call):
    (tmp_path / "there").write_text("former")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left on device: ") as told:
        write_whole(tmp_path / "there", "new")
    assert told.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == ["there"]
    assert (tmp_path / "there").read_text() == "former"


@pytest.mark.parametrize("sealed", [False, True])
def test_a_write_that_the_system_refuses_leaves_the_former_file(tmp_path, sealed):
    writers = {
        "bytes": lambda file: file.write(b"x" * 200_000),
        "few bytes at a time": lambda file: [file.write(b"x" * 100) for _ in range(2_000)],
        "npz": lambda file: np.savez(file, x=np.zeros(30_000)),
        "torch": lambda file: torch.save({"x": torch.zeros(30_000)}, file),
    }
    (tmp_path / "there").write_text("former")
    for name, write in writers.items():
        for place in (tmp_path / "there", tmp_path / "new"):
            told = pytest.raises(OSError, match=f"File too large: '{place}'")
            with full_disk(50_000), told, open_whole(place, sealed=sealed) as file:
                write(file)
        assert os.listdir(tmp_path) == ["there"], name
    assert (tmp_path / "there").read_text() == "former"


HELD = (
    "with open_whole(sys.argv[1]) as file: file.write(b'half'); file.flush(); print(1, flush=True); input()"
)


def test_a_killed_writer_leaves_the_former_file_and_the_next_one_tidies_up(tmp_path):
    place = tmp_path / "there"
    place.write_text("former")
    for _ in range(3):
        with process(HELD, place) as writer:
            writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        assert place.read_text() == "former"
        assert len(os.listdir(tmp_path)) == 2  # each takes the orphan of the one before away
    write_whole(place, "new")
    assert os.listdir(tmp_path) == ["there"]
    assert place.read_text() == "new"


def test_the_orphans_of_several_killed_writers_go_together(tmp_path):
    place = tmp_path / "there"
    with process(HELD, place) as one, process(HELD, place) as two, process(HELD, place) as three:
        for writer in (one, two, three):
            writer.stdout.readline()
        assert len(os.listdir(tmp_path)) == 3
        for writer in (one, two, three):
            writer.kill()
            writer.wait()
    write_whole(place, "new")
    assert os.listdir(tmp_path) == ["there"]


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    place, size = tmp_path / "there", 300_000
    code = (
        "for i in range(10_000): write_whole(sys.argv[1], b'%d' % (i % 10) * 300_000); print(i, flush=True)"
    )
    for rounds in range(1, 11):
        with process(code, place) as writer:
            for _ in range(rounds):
                writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        found = place.read_bytes()
        assert len(found) == size
        assert len(set(found)) == 1
    write_whole(place, "")


def test_what_another_process_is_writing_is_left_alone(tmp_path):
    place = tmp_path / "there"
    with process(HELD, place) as writer:
        writer.stdout.readline()
        write_whole(place, "mine")
        assert place.read_text() == "mine"
        writer.communicate("\n")
        assert writer.returncode == 0
    assert place.read_text() == "half"  # the last one holds, and that was all it had to write
    assert os.listdir(tmp_path) == ["there"]


def test_of_two_processes_that_write_at_once_one_holds_and_neither_fails(tmp_path):
    place = tmp_path / "there"
    code = (
        "print(1, flush=True); input()\nfor _ in range(60): write_whole(sys.argv[1], sys.argv[2] * 100_000)"
    )
    with process(code, place, "a") as one, process(code, place, "b") as other:
        for writer in (one, other):
            writer.stdout.readline()
        for writer in (one, other):
            writer.stdin.write("\n")
            writer.stdin.flush()
        while one.poll() is None or other.poll() is None:
            if place.exists():
                assert place.read_bytes() in (b"a" * 100_000, b"b" * 100_000)
        assert (one.returncode, other.returncode) == (0, 0)
    assert os.listdir(tmp_path) == ["there"]


def test_threads_write_to_one_place(tmp_path):
    place, failed = tmp_path / "there", []

    def write(letter):
        try:
            for _ in range(20):
                write_whole(place, letter * 10_000)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert place.read_text() in {letter * 10_000 for letter in "abcdefgh"}


def test_without_locks_files_are_written_all_the_same_and_orphans_stay(tmp_path, monkeypatch):
    orphan = tmp_path / ".there.0.part"
    orphan.write_text("of someone")
    for absent in (None, "refused"):
        with monkeypatch.context() as patch:
            if absent is None:
                patch.setattr(files, "fcntl", None)
            else:
                patch.setattr(
                    files.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, ""))
                )
            write_whole(tmp_path / "there", "new")
            with pytest.raises(ValueError, match="in the block"), open_whole(tmp_path / "there"):
                raise ValueError("in the block")
        assert sorted(os.listdir(tmp_path)) == [orphan.name, "there"]
        assert orphan.read_text() == "of someone"
    write_whole(tmp_path / "there", "with locks")
    assert os.listdir(tmp_path) == ["there"]


def test_a_link_in_place_of_an_orphan_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / ".there.0.part").symlink_to("victim")
    write_whole(tmp_path / "there", "new")
    assert (tmp_path / "victim").read_text() == "untouched"
    assert (tmp_path / "there").read_text() == "new"
    (tmp_path / ".there.0.part").unlink()


def test_a_new_file_takes_nobodys_place(tmp_path):
    place = tmp_path / "secret"
    write_whole(place, "first", private=True, new=True)
    assert mode(place) == 0o600
    with pytest.raises(FileExistsError):
        write_whole(place, "second", private=True, new=True)
    assert place.read_text() == "first"
    with pytest.raises(FileExistsError), open_whole(tmp_path / "another", new=True):
        (tmp_path / "another").write_text("was quicker")
    assert (tmp_path / "another").read_text() == "was quicker"


# ---------------------------------------------------------------- seals


def flipped(content, bit):
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_every_flipped_bit_and_every_cut_of_a_sealed_file_is_seen(tmp_path):
    place = tmp_path / "sealed"
    for content in (b"", b"what was kept", b"\nlodim-seal-1\n"):
        write_whole(place, content, sealed=True)
        whole = place.read_bytes()
        assert read_sealed(place) == content
        changed = [flipped(whole, bit) for bit in range(8 * len(whole))]
        changed += [whole[:end] for end in range(len(whole))] + [
            whole + b"\n",
            whole + whole,
            b"\0" * len(whole),
        ]
        for other in changed:
            place.write_bytes(other)
            with pytest.raises(DamagedFileError, match=r"^sealed is (truncated|damaged)"):
                read_sealed(place)
    with pytest.raises(FileNotFoundError):
        read_sealed(tmp_path / "not there")


def test_a_sealed_file_can_be_read_by_the_library_that_wrote_it(tmp_path):
    x = np.arange(7.0)
    with open_whole(tmp_path / "x.npy", sealed=True) as file:
        np.save(file, x)
    with open_whole(tmp_path / "x.npz", sealed=True) as file:
        np.savez(file, x=x)
    with open_whole(tmp_path / "x.pt", sealed=True) as file:
        torch.save({"x": torch.from_numpy(x)}, file)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), x)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npz")["x"], x)
    for source in (tmp_path / "x.pt", io.BytesIO(read_sealed(tmp_path / "x.pt"))):
        np.testing.assert_array_equal(torch.load(source, weights_only=True)["x"], x)


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("write", [np.savez, torch.save])
def test_what_changes_an_archives_content_is_seen_sealed_or_not(tmp_path, write, sealed):
    place, x = tmp_path / "archive", np.arange(20.0)
    with open_whole(place, sealed=sealed) as file:
        np.savez(file, x=x) if write is np.savez else torch.save({"x": torch.from_numpy(x)}, file)
    whole = place.read_bytes()
    check_archive(place)
    seen, bits = 0, range(0, 8 * len(whole), 5 if write is np.savez else 41)
    for bit in bits:
        place.write_bytes(flipped(whole, bit))
        try:
            check_archive(place)
        except DamagedFileError:
            seen += 1
        else:  # what is no content: a date, say
            with suppress(RuntimeError):
                held = np.load(place) if write is np.savez else torch.load(place, weights_only=True)
                np.testing.assert_array_equal(held["x"], x)
    assert seen == len(bits) if sealed else seen > 0.5 * len(bits)
    for other in (whole[: len(whole) // 2], b"", b"no archive", whole[100:]):
        place.write_bytes(other)
        with pytest.raises(DamagedFileError, match="archive is damaged, or no file of this kind"):
            check_archive(place)


# ---------------------------------------------------------------- who writes


def test_reports_that_do_not_fit_leave_the_former_ones(tmp_path, monkeypatch):
    points = np.random.default_rng(0).normal(size=(60, 3))
    answer = Profile.load_json(SOURCE.parents[1] / "evidence" / "profiles" / "digits.json")
    monkeypatch.setattr(lodim, "profile", lambda *_, **__: answer)
    np.save(tmp_path / "points.npy", points)
    monkeypatch.chdir(tmp_path)
    command = ["profile", "points.npy", "--quiet"]
    Path("former.json").write_text("former")
    with full_disk(1_000):
        ended = CliRunner().invoke(app, [*command, "--json", "former.json"])
    assert ended.exit_code == 3
    assert ended.stderr.splitlines()[-1] == "Error: --json former.json could not be written: File too large"
    assert Path("former.json").read_text() == "former"
    for one, other in (("json", "html"), ("html", "json")):  # and the other one is written all the same
        ended = CliRunner().invoke(app, [*command, f"--{one}", "/dev/full", f"--{other}", f"good.{other}"])
        assert ended.exit_code == 3
        told = f"Error: --{one} /dev/full could not be written: No space left on device"
        assert ended.stderr.splitlines()[-1] == told
        assert Path(f"good.{other}").read_text().rstrip()[-1] == {"json": "}", "html": ">"}[other]
    assert sorted(os.listdir()) == ["former.json", "good.html", "good.json", "points.npy"]


ALLOWED = {
    "files.py": "is what all others write with",
    "web/jobs.py": "copies an upload into a folder that is no job before its job.json is there",
    "web/processes.py": "a log that grows, and a lock",
    "catalog/feed/sqlite.py": "an empty file that only its owner can read, for SQLite to fill",
}
ALWAYS = {
    "write_text",
    "write_bytes",
    "NamedTemporaryFile",
    "mkstemp",
    "savefig",
    "savetxt",
    "to_csv",
    "to_parquet",
}
INTO = {
    "save",
    "savez",
    "savez_compressed",
}  # of numpy and torch; into a file or a buffer that is open is no matter

OF_OS = {"replace", "rename", "fdopen", "link"}
MAY_WRITE = re.compile(rf"\b(?:{'|'.join((*ALWAYS, *INTO, *OF_OS, 'open'))})\s*\(")


def writes(call):
    """Whether a call writes to a file of its own, or moves one."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    owner = getattr(getattr(call.func, "value", None), "id", "")
    given = [*call.args, *(word.value for word in call.keywords)]
    if name in ALWAYS or (owner == "os" and name in OF_OS):
        return True
    if name in INTO:
        return owner in ("np", "torch") and not {"file", "buffer"} & {getattr(a, "id", "") for a in given[:2]}
    if name == "open" and owner == "os":
        return any("O_CREAT" in ast.unparse(argument) for argument in given)
    modes = [a.value for a in given if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return name == "open" and any(re.fullmatch("[rwxabt+]{1,3}", m) and set(m) & set("wxa+") for m in modes)


def test_no_module_writes_a_file_in_another_way():
    found = {}
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for node in (
            ast.walk(ast.parse(text)) if MAY_WRITE.search(text) else ()
        ):  # most files name none of them
            if isinstance(node, ast.Call) and writes(node):
                found.setdefault(path.relative_to(SOURCE).as_posix(), []).append(ast.unparse(node))
    others = {name: calls for name, calls in found.items() if name not in ALLOWED}
    assert others == {}, "write with lodim.files, or say here why not"
    assert set(ALLOWED) <= set(found), "allowed without need"
