"""The file: its making, its mode, its index, its copies, two writers."""

import io
import resource
import sqlite3
import stat
import subprocess
import sys
import threading

import pytest

from lodim.catalog.feed import Catalog

sqlite = pytest.importorskip("lodim.catalog.feed.sqlite", reason="needs the extra 'web'")
Store = pytest.importorskip("lodim.catalog.feed.store", reason="needs the extra 'web'").Store


def pragma(store, name):
    with store.reading() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def test_a_new_file_is_private_and_set_up(tmp_path):
    path = tmp_path / "folder" / "a?b %20#c.db"
    store = Store(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert pragma(store, "journal_mode") == "wal"
    assert pragma(store, "foreign_keys") == 1
    assert pragma(store, "busy_timeout") == 5000
    with store.reading() as connection:
        tables = connection.exec_driver_sql(
            "SELECT name, strict FROM pragma_table_list WHERE schema = 'main'"
        ).all()
    strict = {name for name, is_strict in tables if is_strict}
    assert strict == {name for name, _ in tables if not name.startswith(("paper_fts", "sqlite_"))}
    assert strict >= {
        "meta",
        "paper",
        "paper_version",
        "author",
        "paper_author",
        "tag",
        "signal",
        "embedding",
    }
    for side in path.parent.iterdir():
        assert stat.S_IMODE(side.stat().st_mode) == 0o600
    store.close()
    assert Store(path).schema_version == store.schema_version


def test_other_files_are_refused(tmp_path):
    text = tmp_path / "text"
    text.write_text("nothing of the kind " * 100)
    with pytest.raises(ValueError, match="nor any SQLite file"):
        Store(text)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE x (y)")
    with pytest.raises(ValueError, match="no catalogue of papers"):
        Store(other)
    with pytest.raises(ValueError, match="is a folder"):
        Store(tmp_path)


def test_a_file_of_a_newer_lodim_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "p.db"
    store = Store(path)
    with store.writing() as connection:
        store.set_meta(connection, "schema_version", "99")
    store.close()
    with pytest.raises(ValueError, match="install a newer lodim"):
        Store(path)


def test_a_missing_full_text_index_is_said(monkeypatch):
    class Poor(sqlite3.Connection):
        def execute(self, statement, *values):
            if "fts5" in statement:
                raise sqlite3.OperationalError("no such module: fts5")
            return super().execute(statement, *values)

    real = sqlite3.connect
    monkeypatch.setattr(sqlite.sqlite3, "connect", lambda *a, **k: real(*a, **k, factory=Poor))
    with pytest.raises(RuntimeError, match="no full-text index FTS5"):
        Store(None)


def test_migrations_are_split_with_triggers_whole():
    script = "CREATE TABLE a (b); -- x\nCREATE TRIGGER t AFTER INSERT ON a BEGIN\n DELETE FROM a;\nEND;\n"
    assert [s.split()[1] for s in sqlite.statements(script)] == ["TABLE", "TRIGGER"]


def test_migrations_are_numbered_alike():
    """Every step is there for both databases, under the same name."""
    from importlib.resources import files

    folder = files("lodim.catalog.feed").joinpath("migrations")
    names = [sorted(f.name for f in folder.joinpath(d).iterdir()) for d in ("sqlite", "postgresql")]
    assert names[0] == names[1]


def test_an_error_undoes_everything(place):
    store = Store(place)

    def fail():
        with store.writing() as connection:
            store.set_meta(connection, "x", "1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.reading() as connection:
        assert store.get_meta(connection, "x") is None
    store.close()


def test_backups_are_whole_private_and_never_overwrite(tmp_path, take, atom):
    with Catalog(tmp_path / "p.db", encoder=None) as papers:
        take(papers, atom)
        copy = papers.backup(tmp_path / "copy.db")
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        with pytest.raises(ValueError, match="never overwrites"):
            papers.backup(copy)
        wanted = [p.to_dict() for p in papers.papers("new").papers]
    with Catalog(copy, encoder=None) as restored:
        assert [p.to_dict() for p in restored.papers("new").papers] == wanted
        assert restored.search("subspaces").n_matching == 1


def test_a_backup_that_does_not_fit_leaves_nothing(tmp_path, take, atom):
    with Catalog(tmp_path / "p.db", encoder=None) as papers:
        take(papers, atom)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # the system refuses what would be longer
        try:
            with pytest.raises(OSError, match=r"copy\.db could not be written"):
                papers.backup(tmp_path / "copy.db")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not [path for path in tmp_path.iterdir() if not path.name.startswith("p.db")]
        assert papers.backup(tmp_path / "copy.db").stat().st_size > 20_000


KILLED = """
import os, sys
from lodim.catalog.feed import Catalog

def look():  # SQLite asks now and then
    if len(os.listdir()) == 2:
        os.kill(os.getpid(), 9)

with Catalog(sys.argv[1], encoder=None) as papers:
    connection = papers.store.engine.raw_connection()
    connection.driver_connection.set_progress_handler(look, 1)
    connection.close()  # into the pool, from which the backup takes it
    papers.backup("copy.db")
"""


def test_what_a_killed_backup_has_left_does_not_get_into_the_next_one(tmp_path, take, atom):
    folder = tmp_path / "copies"
    folder.mkdir()
    with Catalog(tmp_path / "p.db", encoder=None) as papers:
        take(papers, atom)
        command = [sys.executable, "-c", KILLED, tmp_path / "p.db"]
        assert subprocess.run(command, cwd=folder, check=False).returncode == -9
        left = sorted(path.name for path in folder.iterdir())
        assert left == [".copy.db.0.part", ".copy.db.0.part-journal"]
        papers.backup(folder / "copy.db")
    assert [path.name for path in folder.iterdir()] == ["copy.db"]
    with Catalog(folder / "copy.db", encoder=None) as restored:
        assert restored.search("subspaces").n_matching == 1
        with restored.store.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


def test_the_index_can_be_made_anew(papers, take, atom):
    take(papers, atom)
    lost = "INSERT INTO paper_fts (paper_fts) VALUES ('delete-all')"
    with papers.store.writing() as connection:
        connection.exec_driver_sql(lost if connection.dialect.name == "sqlite" else "DELETE FROM paper_fts")
    assert papers.search("subspaces").n_matching == 0
    papers.rebuild()
    assert papers.search("subspaces").n_matching == 1


def test_writers_wait_for_each_other(place):
    Store(place).close()
    errors = []

    def write(number):
        try:
            with Catalog(place, encoder=None) as papers:
                for i in range(10):
                    papers.ingest(io.BytesIO(f"title\nPaper {number} {i}".encode()), "csv")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Catalog(place, encoder=None) as papers:
        assert len(papers) == 40


def test_a_deleted_paper_takes_everything_along(papers, take, daily):
    take(papers, daily)
    with papers.store.writing() as connection:
        connection.exec_driver_sql("DELETE FROM paper WHERE id = 1")
        for table in ("paper_version", "paper_author", "tag", "signal"):
            assert (
                connection.exec_driver_sql(f"SELECT count(*) FROM {table} WHERE paper_id = 1").scalar() == 0
            )
    assert papers.search("intrinsic").n_matching == 0
