"""Record the small measurements that the documentation shows: text, pictures and what they were made on.

    python tools/record_pages.py                    # all of them: minutes
    python tools/record_pages.py guidance samplers  # some
    python tools/record_pages.py --stale            # those whose source has changed since, or that have no record

They are the functions of ``docs/_ext/measurements.py``. Each runs in a process of its own and leaves
``evidence/pages/<name>.md``, its pictures beside it and ``<name>.json``: date, machine, versions, command, seconds,
commit, and a digest of its source, that is of its function and of every module of lodim that it loaded. The pages
include these (``docs/_ext/measured.py``); a build never measures.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import inspect
import io
import json
import multiprocessing
import re
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "evidence" / "pages"
sys.path.insert(0, str(ROOT / "docs" / "_ext"))

import measurements  # noqa: E402

MOST_BYTES = 120_000  # of a picture; rasterise what has thousands of points


def _digest(parts: Iterable[bytes]) -> str:
    hasher = hashlib.blake2b(digest_size=12)
    for part in parts:
        hasher.update(hashlib.blake2b(part).digest())
    return hasher.hexdigest()


def _text_of(name: str) -> str:
    """Return the source of a measurement with that of the helpers which it names."""
    helpers = {
        key: inspect.getsource(value)
        for key, value in vars(measurements).items()
        if inspect.isfunction(value) and key not in measurements.MEASUREMENTS
    }
    text, found = inspect.getsource(measurements.MEASUREMENTS[name]), set()
    while new := {key for key in helpers if re.search(rf"\b{key}\b", text)} - found:
        found |= new
        text += "".join(helpers[key] for key in sorted(new))
    return text


def source_digest(name: str, modules: Iterable[str]) -> str:
    """Return what tells the source of a measurement: its text and that of the modules it loaded."""
    parts = [_text_of(name).encode()]
    for module in modules:
        spec = importlib.util.find_spec(module)
        parts.append(Path(spec.origin).read_bytes() if spec and spec.origin else b"gone")
    return _digest(parts)


def content_digest(folder: Path, name: str, pictures: Iterable[str]) -> str:
    """Return what tells the recorded text and pictures, none of which is edited by hand."""
    return _digest((folder / file).read_bytes() for file in (f"{name}.md", *pictures))


def measure(name: str) -> tuple[str, dict[str, bytes], dict[str, Any]]:
    """Run a measurement in this process and return its text, its pictures and the record."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    pictures: dict[str, bytes] = {}

    def save(figure: Any, alt: str, part: str = "") -> str:
        file, drawn = f"{name}{'-' * bool(part)}{part}.svg", io.BytesIO()
        with mpl.rc_context({"svg.hashsalt": "lodim"}):  # the same drawing is the same file
            figure.savefig(drawn, format="svg", dpi=120, bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
        pictures[file] = drawn.getvalue()
        return f"![{alt}]({file})"

    start, busy = time.perf_counter(), time.process_time()
    text = measurements.MEASUREMENTS[name](save).rstrip() + "\n"
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    modules = sorted(key for key in sys.modules if key.split(".")[0] == "lodim")

    from lodim.claims.machine import describe_machine, source_revision, versions

    record = {
        "page": name,
        "command": f"python tools/record_pages.py {name}",
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(busy, 1),
        "commit": source_revision(),
        "machine": describe_machine(),
        "versions": versions(),
        "pictures": list(pictures),
        "source": source_digest(name, modules),
        "modules": modules,
    }
    return text, pictures, record


def write(folder: Path, name: str, text: str, pictures: Mapping[str, bytes], record: dict[str, Any]) -> None:
    """Write what :func:`measure` returned, and remove pictures that an earlier record had."""
    for file, drawn in pictures.items():
        if len(drawn) > MOST_BYTES:
            raise ValueError(
                f"{file} has {len(drawn):,} bytes, more than {MOST_BYTES:,}: rasterise its points"
            )
    from lodim.files import write_whole  # here: the digest of a measurement has nothing of the tool

    folder.mkdir(parents=True, exist_ok=True)
    before = folder / f"{name}.json"
    old = json.loads(before.read_text(encoding="utf-8"))["pictures"] if before.exists() else []
    for file, drawn in pictures.items():
        write_whole(folder / file, drawn)
    write_whole(folder / f"{name}.md", text)
    content = content_digest(folder, name, pictures)
    write_whole(before, json.dumps({**record, "content": content}, indent=1, ensure_ascii=False) + "\n")
    for file in set(old) - set(pictures):
        (folder / file).unlink(missing_ok=True)


def stale(folder: Path, names: Iterable[str]) -> list[str]:
    """Return those without a record and those whose source has changed since."""
    found = []
    for name in names:
        file = folder / f"{name}.json"
        record = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        if record is None or record["source"] != source_digest(name, record["modules"]):
            found.append(name)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Record what was asked for; the exit code is 1 where a measurement failed."""
    parser = argparse.ArgumentParser(
        description="Record the measurements that pages of the documentation show."
    )
    parser.add_argument("name", nargs="*", help="default: all")
    parser.add_argument("--stale", action="store_true", help="only those whose source has changed")
    asked = parser.parse_args(arguments)
    unknown = set(asked.name) - set(measurements.MEASUREMENTS)
    if unknown:
        parser.error(
            f"no measurement is called {', '.join(sorted(unknown))}; there are {', '.join(measurements.MEASUREMENTS)}"
        )
    names = asked.name or list(measurements.MEASUREMENTS)
    failed = 0
    for name in stale(PAGES, names) if asked.stale else names:
        # a fresh process: nothing drawn or loaded by another one
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                text, pictures, record = pool.submit(measure, name).result()
                write(PAGES, name, text, pictures, record)
            except Exception as error:
                failed += 1
                print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
                continue
        print(f"{name}: {record['seconds']:g} s", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
