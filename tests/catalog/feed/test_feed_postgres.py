"""A catalogue on a PostgreSQL server: what differs from a file. What does not is tested on both elsewhere."""

import logging
import threading
import traceback

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")
pytest.importorskip("psycopg", reason="needs the extra 'postgres'")

import sqlalchemy as sa

import lodim.catalog.feed.store as store_module
from lodim.catalog.feed import Catalog
from lodim.catalog.feed.dialect import place_of
from lodim.catalog.feed.store import Store

SECRET = "hunter2:tr/icky"


@pytest.fixture
def server(postgresql):
    """Return the address of an empty catalogue on a server."""
    with postgresql.database("catalogue") as url:
        yield url


def test_migrations_of_both_databases_are_in_step(server, tmp_path):
    """The same tables with the same columns, kinds of values, keys and indices."""
    kinds = {"BIGINT": "INTEGER", "DOUBLE PRECISION": "REAL", "DOUBLE_PRECISION": "REAL", "BYTEA": "BLOB"}

    def described(place):
        store = Store(place)
        with store.reading() as connection:
            inspector, found = sa.inspect(connection), {}
            for table in sorted(set(inspector.get_table_names())):
                if table.startswith("paper_fts"):
                    continue
                columns = {
                    c["name"]: (
                        kinds.get(str(c["type"]).split(" COLLATE")[0], str(c["type"]).split(" COLLATE")[0]),
                        c["nullable"],
                    )
                    for c in inspector.get_columns(table)
                }
                keys = inspector.get_pk_constraint(table)["constrained_columns"]
                for key in keys:  # which in SQLite is not said again to be not null
                    columns[key] = (columns[key][0], False)
                if place == server:
                    told = [
                        (*k["constrained_columns"], k["referred_table"], k["options"])
                        for k in inspector.get_foreign_keys(table)
                    ]
                    foreign = {(column, other, o.get("ondelete", "NO ACTION")) for column, other, o in told}
                else:
                    told = connection.exec_driver_sql(f"PRAGMA foreign_key_list({table})").mappings()
                    foreign = {(k["from"], k["table"], k["on_delete"]) for k in told}
                unique = {tuple(u["column_names"]) for u in inspector.get_unique_constraints(table)}
                indices = {
                    i["name"]: (i["column_names"], bool(i["unique"]))
                    for i in inspector.get_indexes(table)
                    if not i.get("duplicates_constraint")
                }
                found[table] = (columns, keys, foreign, unique, indices)
        version = store.schema_version
        store.close()
        return found, version

    on_server, in_file = described(server), described(tmp_path / "p.db")
    assert on_server[1] == in_file[1]
    assert on_server[0].keys() == in_file[0].keys()
    for table, description in in_file[0].items():
        assert on_server[0][table] == description, table


def test_everything_that_is_compared_is_compared_byte_by_byte(server):
    """Names, times and keys sort as in a file, whatever the language of the database."""
    with Store(server).reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT c.table_name, c.column_name FROM information_schema.columns AS c "
            "JOIN information_schema.tables AS t USING (table_schema, table_name) "
            "WHERE c.table_schema = 'public' AND c.data_type = 'text' AND t.table_type = 'BASE TABLE' "
            "AND c.collation_name IS DISTINCT FROM 'C' "
            "AND right(c.column_name, 3) IN ('_at', '_id', 'key', 'ame', 'est')"
        )
        assert rows.all() == []


def test_no_two_papers_lists_differ_by_database(server, take, atom, daily, voted):
    """Lists without words are the same in a file and on a server, scores and all."""
    now = "2026-11-23T12:00:00Z"
    votes = voted(*((f"2611.{i:05}", (i * 7) % 50, f"2026-11-{1 + i % 22:02}") for i in range(60)))
    pages = []
    for place in (":memory:", server):
        with Catalog(place, encoder=None) as papers:
            take(papers, votes, now="2026-11-22T00:00:00Z")
            take(papers, atom)
            take(papers, daily)
            pages.append(
                [
                    papers.papers(sort, now=now, limit=100).to_dict()
                    for sort in ("new", "trending", "velocity", "top")
                ]
                + [papers.papers("new", areas=["cs"], since="year", now=now).to_dict()]
            )
    assert pages[0] == pages[1]


def test_words_are_told_apart_as_in_a_file(server, take):
    """Accents, case, punctuation and endings of words; words that are frequent in English are found too."""
    rows = (
        "title;abstract;authors\n3D U-Nets: what's new?;the one with $a<b$ and min/max;Jürgen Müller\n"
        "Graph networks; end of title;Ann Lee\nÉCOLE of “Schrödinger” — again;x_y/z.w@example.org;Bo Xu\n"
        "Тест;of The Who;李 明\n"
    )
    for place in (":memory:", server):
        with Catalog(place, encoder=None) as papers:
            take(papers, rows, "csv")
            for text, wanted in {
                "3d": "3", "u nets": "3", '"u net"': "3", "muller": "3", "MÜLLER": "3", "min": "3", '"min max"': "3",
                "network": "G", "networking": "G", '"networks end"': "", '"end of title"': "G", "who": "Т", "the": "3Т",
                "ecole schrodinger": "É", "y": "É", '"z w"': "É", "example": "É", "тест": "Т", "李": "Т", "zzz": "",
                "a -min": "", "new -graph": "3",
            }.items():  # fmt: skip
                found = "".join(sorted(p.title[0] for p in papers.search(text).papers))
                assert found == wanted, (place, text)


def test_rare_words_titles_and_repetition_count(server, take):
    rows = "title,abstract\n" + "".join(f"common {i},filler text\n" for i in range(20))
    with Catalog(server, encoder=None) as papers:
        take(
            papers,
            rows + "A,rareword here\nB,common here\nrareword in title,filler\nC,rareword rareword rareword\n",
        )
        found = [p.title for p in papers.search("rareword common").papers]
        assert found[0] == "rareword in title"
        assert found[1:3] == ["C", "A"]


def test_a_copy_is_the_servers_business(server, tmp_path):
    with Catalog(server) as papers, pytest.raises(ValueError, match=r"pg_dump .*--file=\S*copy papers\d"):
        papers.backup(tmp_path / "copy")


def test_other_databases_are_refused(postgresql, server):
    with pytest.raises(ValueError, match="got mysql://"):
        Catalog("mysql://me:secret@host/x")
    with postgresql.database() as url:
        engine = sa.create_engine(place_of(url))
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE x (y int)")
        engine.dispose()
        with pytest.raises(ValueError, match=r"^postgresql://.* is a database, but no catalogue"):
            Store(url)
    with Catalog(server) as papers, papers.store.writing() as connection:
        papers.store.set_meta(connection, "schema_version", "99")
    with pytest.raises(ValueError, match="install a newer lodim"):
        Store(server)


def test_a_database_in_another_encoding_is_refused(postgresql):
    postgresql.command("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(RuntimeError, match="encoded as UTF8, not LATIN1"):
            Store(postgresql.url("latin"))
    finally:
        postgresql.command("DROP DATABASE latin WITH (FORCE)")


def test_a_schema_of_its_own_in_a_shared_database(postgresql):
    with postgresql.database() as url:
        engine = sa.create_engine(place_of(url))
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE of_others (y int)")
            connection.exec_driver_sql("CREATE SCHEMA papers")
        engine.dispose()
        own = f"{url}&options=-csearch_path%3Dpapers"
        with Catalog(own, encoder=None) as papers:
            papers.ingest(__file__, "text")
            assert len(papers) == len(Catalog(own, encoder=None))


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:{}@127.0.0.1:1/papers",
        "postgresql://me:{}@localhost:port/papers",
        "postgresql+psycopg://me:{}@[::1/papers",
        "postgresql://127.0.0.1:1/papers?password={}&user=me",
        "postgres://me:{}@127.0.0.1:1/papers?no_such_option=1",
        "mysql://me:{}@host/x",
    ],
)
@pytest.mark.parametrize("escaped", [True, False])
def test_a_password_is_never_told(address, escaped, caplog, capsys):
    from urllib.parse import quote

    caplog.set_level(logging.DEBUG)
    with pytest.raises((ValueError, OSError, RuntimeError)) as caught:
        Catalog(address.format(quote(SECRET, safe="") if escaped else SECRET))
    told = "".join(traceback.format_exception(caught.value)) + caplog.text + "".join(capsys.readouterr())
    assert "hunter2" not in told
    assert "icky" not in told


def test_a_database_that_does_not_exist_and_a_server_that_is_gone(postgresql, server, monkeypatch):
    with pytest.raises(
        ConnectionError, match=r'postgresql://.*/none cannot be reached: .*"none" does not exist'
    ):
        Store(postgresql.url("none"))
    store = Store(server)
    with pytest.raises(ConnectionError, match="cannot be reached"), store.writing() as connection:  # noqa: PT012
        own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        postgresql.command(f"SELECT pg_terminate_backend({own})")
        connection.exec_driver_sql("SELECT 1")
    with store.reading() as connection:  # and is found again
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
    store.close()


def test_an_error_shows_no_values(server):
    store = Store(server)
    with pytest.raises(sa.exc.DBAPIError) as caught, store.writing() as connection:
        connection.execute(sa.text("SELECT CAST(:secret AS int)"), {"secret": "someone@example.org"})
    assert "[SQL parameters hidden" in str(caught.value)


def test_the_missing_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ImportError, match=r"lodim\[postgres\]"):
        Catalog("postgresql://localhost/x")


def test_a_list_sees_one_moment(server):
    one, other = Store(server), Store(server)
    with one.reading() as connection:
        assert one.get_meta(connection, "x") is None
        with other.writing() as writer:
            other.set_meta(writer, "x", "1")
        assert one.get_meta(connection, "x") is None
    with one.reading() as connection:
        assert one.get_meta(connection, "x") == "1"
        with pytest.raises(sa.exc.DBAPIError, match="read-only"):
            one.set_meta(connection, "x", "2")


def test_what_has_a_lock_waits_and_what_has_another_does_not(server):
    store, met = Store(server), threading.Barrier(2, timeout=120)

    def adding(lock):
        with store.writing(lock, patience=120) as connection:
            if lock == "other":
                met.wait()  # while the first still writes
            n = int(store.get_meta(connection, lock) or 0)
            store.set_meta(connection, lock, str(n + 1))

    with store.writing("one") as connection:
        store.set_meta(connection, "one", "1")
        others = [threading.Thread(target=adding, args=(lock,)) for lock in ("one", "one", "other")]
        for thread in others:
            thread.start()
        met.wait()
        with (
            pytest.raises(TimeoutError, match="written to by another process"),
            store.writing("one", patience=0.05),
        ):
            raise AssertionError("both write")
    for thread in others:
        thread.join()
    with store.reading() as connection:
        assert [store.get_meta(connection, lock) for lock in ("one", "other")] == ["3", "1"]
    store.close()


def test_opening_does_not_wait_for_a_writer(server, monkeypatch):
    store = Store(server)
    monkeypatch.setattr(store_module, "LONG", 0.05)
    with store.writing("papers"), store.writing("schema"):
        other = Store(server)
        assert other.schema_version == store.schema_version
        other.close()
    store.close()


def test_of_two_that_wait_for_each_other_one_begins_anew(server):
    store, met, begun = Store(server), threading.Barrier(2, timeout=120), []

    def work(first, second):
        def change(connection):
            begun.append(first)
            store.set_meta(connection, first, "x")
            if begun.count(first) == 1:
                met.wait()
            store.set_meta(connection, second, first)

        return change

    keys = (("a", "b"), ("b", "a"))
    threads = [threading.Thread(target=store.run, args=(work(*key), key[0])) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(begun) in (["a", "a", "b"], ["a", "b", "b"])
    with store.reading() as connection:
        values = (store.get_meta(connection, "a"), store.get_meta(connection, "b"))
    assert values == (("x", begun[-1]) if begun[-1] == "a" else (begun[-1], "x"))
    store.close()


def test_what_always_stands_in_the_way_is_told(server):
    store, tries = Store(server), []

    def work(connection):
        tries.append(connection)
        connection.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$")

    with pytest.raises(TimeoutError, match="at the same place"):
        store.run(work)
    assert len(tries) == 3
    store.close()


def test_who_has_two_locks_keeps_others_from_either(server):
    store = Store(server)
    with store.writing("one", "two"):
        for lock in ("one", "two"):
            with pytest.raises(TimeoutError), store.writing(lock, patience=0.01):
                raise AssertionError("both write")
    with store.writing("two"):
        with pytest.raises(TimeoutError), store.writing("one", "two", patience=0.01):
            raise AssertionError("both write")
        with store.writing("one", patience=0.01):  # which was let go
            pass
    store.close()
