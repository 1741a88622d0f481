"""What commands print on standard output."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


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
