"""``lodim claims``: run the evidence of the methods, and show what was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .errors import say
from .options import check_folder, check_one_of
from .output import tell_written
from .progress import bar

claims_app = typer.Typer(
    help="Evidence: each published claim as an experiment that runs here.", no_args_is_help=True
)

Folder = Annotated[
    str | None,
    typer.Option(
        "--evidence",
        metavar="FOLDER",
        help="Where the records are; default: ./evidence if there is one, else the user's own, as 'lodim serve'.",
    ),
]


def _folder(named: str | None, *, make: bool = False) -> str:
    """Return where records are, as the user says or else where the pages look for them."""
    if named is not None:
        check_folder(named, "--evidence", make=make)
        return named
    from lodim.catalog.baseline import evidence_folder

    return str(evidence_folder())


@claims_app.command("list")
def list_() -> None:
    """List the claims: name, scales, minutes, what is claimed."""
    from lodim.claims import list_claims

    for claim in list_claims():
        scales = "|".join(claim.scales)
        typer.echo(f"{claim.name}  [{scales}, about {claim.minutes:g} min]\n    {claim.statement}")


@claims_app.command()
def run(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Which claims; all by default.")
    ] = None,
    scale: Annotated[str, typer.Option(metavar="laptop|full", help="How large an experiment.")] = "laptop",
    seed: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Runs of seeds other than 0 are recorded beside, under seeds/."
        ),
    ] = 0,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Processes.")] = 1,
    ray: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Ray cluster, or 'auto'.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Without names: only the quick ones.")] = False,
    evidence: Folder = None,
    dry: Annotated[bool, typer.Option("--dry", help="Record nothing.")] = False,
) -> None:
    """Run claims and record what came out; the exit code is 1 if one of them failed."""
    from lodim.claims import find_claim, list_claims, run_claim, run_claims
    from lodim.results.records import SCALES

    check_one_of(scale, SCALES, "--scale")
    folder = _folder(evidence, make=True)
    out = None if dry else folder
    if jobs > 1 or ray is not None:
        results = run_claims(
            names or None,
            scale,
            seed,
            out,
            fast=fast,
            n_jobs=jobs,
            ray=ray,
            on_done=lambda r: typer.echo(str(r)),
        )
    else:
        chosen = [find_claim(name) for name in names] if names else list_claims()
        if not names:
            chosen = [claim for claim in chosen if scale in claim.scales and (claim.fast or not fast)]
        results = []
        for claim in chosen:
            with bar(claim.name) as tell:
                results.append(run_claim(claim.name, scale, seed, out, progress=tell))
            typer.echo(str(results[-1]))
    if out is not None and any(result.verdict != "skipped" for result in results):
        say(f"Recorded in {out}")
    failed = [result.name for result in results if result.verdict in ("fails", "error")]
    if failed:
        say(f"Did not pass: {', '.join(failed)}")
        raise typer.Exit(1)


@claims_app.command()
def table(
    evidence: Folder = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write the README's table of areas instead.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Only say whether that is up to date.")] = False,
) -> None:
    """Show the recorded results as a table."""
    from lodim.claims import claims_table, read_evidence, update_tables

    if not (write or check):
        typer.echo(claims_table(read_evidence(_folder(evidence))))
        return
    if not Path("README.md").is_file():
        raise ValueError("the current folder is not a checkout of lodim: it has no README.md")
    tell_written(update_tables(".", check=check), check=check)
