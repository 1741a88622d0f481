"""Queries with the method each should find, and how well a way of searching does on them.

They stand on the cards. ``paraphrases`` are fourteen problems told without the papers' words. ``plain`` has one problem
for every method, written before the cards were; ``terms`` uses the trade's own words and was written after (four words
that it showed to be missing were then added to cards).
"""

import glob
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import count

import pytest

from lodim.catalog import load_cards, search

# The same on a server takes three times as long: in the slow step. What is PostgreSQL's own is in test_feed_postgres.
DATABASES = ("sqlite", pytest.param("postgresql", marks=pytest.mark.slow))


@dataclass(frozen=True)
class Places:
    """Where the wanted methods came."""

    places: tuple

    @property
    def first(self):
        return sum(place == 1 for place in self.places)

    @property
    def in_three(self):
        return sum(place <= 3 for place in self.places)

    @property
    def reciprocal(self):
        return sum(1 / place for place in self.places) / len(self.places)


@pytest.fixture(scope="session")
def queries():
    """Return the sets of queries of the cards, each a mapping from text to slug."""
    cards = load_cards()
    return {
        "paraphrases": {text: card.slug for card in cards for text in card.queries.told},
        "plain": {card.queries.plain: card.slug for card in cards},
        "terms": {text: card.slug for card in cards for text in card.queries.trade},
    }


@pytest.fixture(scope="session")
def places():
    """Return a function that searches for every query and says where its method came (57: not found)."""

    def of(wanted, mode):
        found = []
        for text, slug in wanted.items():
            slugs = [hit.slug for hit in search(text, 56, mode=mode).hits]
            found.append(slugs.index(slug) + 1 if slug in slugs else 57)
        return Places(tuple(found))

    return of


class Server:
    """A PostgreSQL server of these tests alone, reached through a socket in a folder of its own."""

    options = {
        "listen_addresses": "",
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "autovacuum": "off",
        "shared_buffers": "16MB",
        "max_connections": "40",
        "jit": "off",
    }

    def __init__(self, programs, folder, user):
        self.programs, self.folder, self.numbers = programs, folder, count()
        self._as = {}
        if user:
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            shutil.chown(folder, user.pw_uid)
        try:
            self._start()
        except BaseException:  # what was too slow to be waited for may have begun all the same
            with suppress(OSError, subprocess.SubprocessError):
                self.stop()
            raise

    def _start(self):
        self._run("initdb", "-A", "trust", "-U", "lodim", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        settings = {**self.options, "unix_socket_directories": self.folder}
        chosen = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        self._run("pg_ctl", "-w", "-t", "240", "-l", f"{self.folder}/log", "-o", chosen, "start")

    def _run(self, program, *arguments):
        subprocess.run(
            [f"{self.programs}/{program}", "-D", f"{self.folder}/data", *arguments],
            check=True, text=True, cwd=self.folder, env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=300, **self._as,
        )  # fmt: skip

    def stop(self):
        self._run("pg_ctl", "-m", "immediate", "stop")

    def url(self, database):
        return "postgresql://lodim@/" + database + f"?host={self.folder}"

    def command(self, statement):
        import psycopg

        with psycopg.connect(
            host=self.folder, user="lodim", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(statement)

    @contextmanager
    def database(self, template="template1"):
        """Give the address of a new database, a copy of a template, and delete it in the end."""
        name = f"papers{next(self.numbers)}"
        self.command(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self.url(name)
        finally:
            self.command(f"DROP DATABASE {name} WITH (FORCE)")


def programs_of_postgresql():
    """Return the folder of initdb and pg_ctl, or None."""
    kept = glob.glob("/usr/lib/postgresql/*/bin/initdb")
    kept.sort(key=lambda path: [int(number) for number in re.findall(r"\d+", path)], reverse=True)
    known = [shutil.which("initdb"), *kept]
    folders = [os.path.dirname(os.path.realpath(path)) for path in known if path]
    return next((folder for folder in folders if os.path.exists(f"{folder}/pg_ctl")), None)


def other_user():
    """Return the user that runs the server: it refuses to be run by root."""
    import pwd

    if os.getuid() != 0:
        return None
    known = {user.pw_name: user for user in pwd.getpwall()}
    return known.get("postgres") or known.get("nobody")


@pytest.fixture(scope="session")
def postgresql():
    """Return a running server with the database ``catalogue``, which holds an empty catalogue."""
    for needed in ("sqlalchemy", "psycopg"):
        pytest.importorskip(needed, reason="needs the extra 'postgres'")
    programs = programs_of_postgresql()
    if programs is None:
        pytest.skip("needs PostgreSQL's initdb and pg_ctl, in PATH or in /usr/lib/postgresql")
    folder = tempfile.mkdtemp(prefix="lodim-pg-")
    try:
        server = Server(programs, folder, other_user())
    except (OSError, subprocess.SubprocessError, LookupError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"no PostgreSQL server can be started: {getattr(error, 'stderr', None) or error}")
    from lodim.catalog.feed.store import Store

    try:
        server.command("CREATE DATABASE catalogue")
        Store(server.url("catalogue")).close()
        yield server
    finally:
        try:
            server.stop()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def blank(tmp_path_factory):
    """Return a function that puts an empty catalogue at a place: a copy, since making one takes longer."""
    pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")
    from lodim.catalog.feed import Catalog

    made = tmp_path_factory.mktemp("blank") / "catalogue.db"
    Catalog(made, encoder=None).close()
    return lambda place: shutil.copy(made, place)


@pytest.fixture(scope="session", params=DATABASES)
def fresh(request, tmp_path_factory):
    """Return a function that gives the place of an empty catalogue: a file, or a database on a server."""
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        return lambda: server.database("catalogue")
    blank = request.getfixturevalue("blank")
    return lambda: nullcontext(blank(tmp_path_factory.mktemp("catalogue") / "catalogue.db"))


@pytest.fixture
def place(fresh):
    """Return the place of an empty catalogue."""
    with fresh() as made:
        yield made


@pytest.fixture(scope="session")
def emptied(fresh):
    """Return a function that gives an empty catalogue again and again: for tests with many examples."""
    pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")
    from lodim.catalog.feed import Catalog

    @contextmanager
    def again():
        with catalog.store.writing() as connection:
            connection.exec_driver_sql("TRUNCATE paper, author, meta RESTART IDENTITY CASCADE")
            catalog.store.set_meta(connection, "schema_version", str(catalog.store.schema_version))
        yield catalog

    with fresh() as made:
        if not isinstance(made, str):
            yield lambda: Catalog(":memory:", encoder=None)
            return
        with Catalog(made, encoder=None) as catalog:
            yield again
