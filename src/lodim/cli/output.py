"""What commands print on standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


_WIDTHS = range(20, 10_001)  # columns in which tables can be read


def prepare_terminal() -> None:
    """Make sure that text can be shown: with COLUMNS=0 nothing would be, and names of files may hold bytes, and tables
    lines, that standard output has no letter for; those are written as escapes.
    """
    width = os.environ.get("COLUMNS", "")
    if width and not (width.isascii() and width.isdecimal() and len(width) < 6 and int(width) in _WIDTHS):
        del os.environ["COLUMNS"]
    if getattr(sys.stdout, "errors", None) == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def printable(text: str) -> str:
    """Return text that can be written as UTF-8: bytes of a file's name or an argument that are no letters escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def print_json(value: Any) -> None:
    """Print a value for programs."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def console() -> Any:
    """Return a console of rich that shows text as it is."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def tell_written(changed: Iterable[Any], *, check: bool) -> None:
    """Say which generated files were written, or with ``check`` are stale, which leaves with 1."""
    changed = list(changed)
    for path in changed:
        typer.echo(f"{path} {'is out of date' if check else 'was updated'}")
    if check and changed:
        raise typer.Exit(1)
