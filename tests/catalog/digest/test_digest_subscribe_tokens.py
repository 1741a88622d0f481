"""Links and the secret they are made with."""

import os
import stat
import threading

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")

import lodim.catalog.feed
from lodim.catalog.digest.tokens import (
    derive_token,
    digest_of_token,
    new_seed,
    read_secret,
    site_secret,
    well_formed,
)

SECRET = b"s" * 32


def test_tokens_depend_on_everything_they_are_made_of():
    seed = new_seed()
    token = derive_token(SECRET, "confirm", seed)
    assert well_formed(token)
    assert token == derive_token(SECRET, "confirm", seed)
    others = [
        derive_token(b"t" * 32, "confirm", seed),
        derive_token(SECRET, "unsubscribe", seed),
        derive_token(SECRET, "confirm", new_seed()),
    ]
    assert len({token, *others}) == 4
    assert digest_of_token(token) not in token
    assert len(digest_of_token(token)) == 64


def test_seeds_are_32_bytes_and_never_the_same():
    seeds = {new_seed() for _ in range(1000)}
    assert len(seeds) == 1000
    assert all(len(bytes.fromhex(seed)) == 32 for seed in seeds)


@pytest.mark.parametrize(
    "text", ["", "a" * 42, "a" * 44, "a" * 42 + "=", "a" * 42 + "\n", "../" + "a" * 40, "é" * 43]
)
def test_other_texts_have_not_the_form_of_a_token(text):
    assert not well_formed(text)


def test_a_secret_file_is_made_once_and_private(tmp_path):
    path = tmp_path / "data" / "secret"
    made = read_secret(path, make=True)
    assert len(made) >= 32
    assert read_secret(path, make=True) == made == read_secret(path)
    assert list(path.parent.iterdir()) == [path]
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_secret_of_a_site_is_one_for_all_commands(tmp_path, monkeypatch):
    monkeypatch.setattr(lodim.catalog.feed, "default_path", lambda: tmp_path / "papers.db", raising=False)
    made = site_secret()
    assert made == site_secret() == read_secret(tmp_path / "secret")
    assert site_secret(tmp_path / "other") == site_secret(tmp_path / "other") != made


def test_of_many_that_make_it_at_once_one_secret_holds(tmp_path):
    path, read = tmp_path / "secret", []
    barrier = threading.Barrier(8, timeout=120)

    def make():
        barrier.wait()
        read.append(read_secret(path, make=True))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read) == 8
    assert len(set(read)) == 1


def test_secrets_that_cannot_be_used_are_refused(tmp_path):
    path = tmp_path / "secret"
    with pytest.raises(ValueError, match="cannot read the secret"):
        read_secret(path)
    path.write_text("short")
    path.chmod(0o600)
    with pytest.raises(ValueError, match="at least 32"):
        read_secret(path)
    path.write_text("x" * 40)
    assert read_secret(path) == b"x" * 40
    if os.name == "posix":
        path.chmod(0o644)
        with pytest.raises(ValueError, match="can be read by others"):
            read_secret(path)
