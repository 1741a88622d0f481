"""The commands: ``lodim profile``, ``lodim datasets``, ``lodim claims`` and the catalogue's.

Answers go to standard output, everything about the run (progress, warnings, errors) to standard error. Heavy
libraries are imported by the commands that need them, so ``lodim --help`` answers at once.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import lodim
from lodim.files import write_whole

from . import catalog, digest, serve
from .claims import claims_app
from .errors import INTERRUPTED, reported, say
from .feed import papers_app
from .options import check_apart, check_input, check_one_of, check_output, check_regular, seconds
from .output import prepare_terminal, printable
from .progress import bar


class _Reported(TyperGroup):
    """A group of commands whose errors become messages."""

    def main(self, *args: Any, **options: Any) -> Any:
        prepare_terminal()
        return super().main(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with reported():
            return super().invoke(ctx)


app = typer.Typer(
    name="lodim",
    cls=_Reported,
    help="Find how few dimensions a problem really needs, and use only those.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(claims_app, name="claims")
app.add_typer(papers_app, name="papers")
catalog.register(app)
serve.register(app)
digest.register(app)


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"lodim {lodim.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Find how few dimensions a problem really needs, and use only those."""
    del version  # its callback has answered


@app.command()
def profile(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A named data set (see 'lodim datasets'), a CSV, TSV, Parquet or Excel table, an NPY or NPZ file, a "
            "folder of images, or package.module:function returning (X, y).",
        ),
    ],
    target: Annotated[
        str | None, typer.Option(metavar="COL", help="Column to predict: name or position (-1: last).")
    ] = None,
    labels: Annotated[str | None, typer.Option(metavar="FILE", help="File with one label a row.")] = None,
    kind: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="How the target is read: classification, regression, or auto (a note says what it chose).",
        ),
    ] = "auto",
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="none, linear, mlp, lenet or package.module:factory. Default: mlp where there is a target.",
        ),
    ] = None,
    budget: Annotated[str, typer.Option(metavar="TIME", help="Time to spend: 60s, 2m, 1h.")] = "60s",
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a report with pictures (- for stdout).")
    ] = None,
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the figures (- for stdout).")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Ray cluster for the training runs, or 'auto'.")
    ] = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Processes for the training runs.")] = 1,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Same seed, same answer.")] = 0,
    missing: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="auto: fill gaps of a table in, refuse stray text and gaps in arrays; impute: fill all in; "
            "error: refuse all.",
        ),
    ] = "auto",
    max_rows: Annotated[
        int, typer.Option(metavar="N", min=10, help="Larger data are sampled down to N rows.")
    ] = 100_000,
    topology: Annotated[
        bool, typer.Option("--topology", help="Count components and loops too (extra 'topology').")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the verdict, no progress.")] = False,
) -> None:
    """Say how many dimensions the data have and how few a model of them needs."""
    spent = seconds(budget)
    check_apart({"--html": html, "--json": json}, {"SOURCE": source, "--labels": labels})
    check_output(html, "--html")
    check_output(json, "--json")
    check_one_of(kind, ("auto", "classification", "regression"), "--kind")
    check_one_of(missing, ("auto", "impute", "error"), "--missing")
    check_regular(source, "SOURCE")
    if labels is not None:
        check_input(labels, "--labels")
    from lodim.datasets import read_source

    dataset = read_source(
        source, target=target, labels=labels, missing=missing, max_rows=max_rows, random_state=seed
    )
    dataset = replace(dataset, name=printable(dataset.name))
    _check_model(model, dataset)
    options = {
        "budget": spent, "random_state": seed, "n_jobs": jobs, "ray": ray, "source": printable(source),
        "topology": topology,
        "kind": kind,
    }  # fmt: skip
    answer, complete = _measure(dataset, model, options, quiet)
    _deliver(answer, html, json, quiet)
    if not complete:
        raise typer.Exit(INTERRUPTED)


def _check_model(model: str | None, dataset: Any) -> None:
    """Refuse a model that cannot be imported, or that has no target to learn."""
    if model in (None, "none"):
        return
    if model is not None and ":" in model:
        from lodim.datasets import resolve

        resolve(model)
    if dataset.y is not None:
        return
    names = ", ".join(map(repr, (dataset.feature_names or [])[:8]))
    columns = f" Columns of {dataset.name}: {names}" if names else ""
    raise ValueError(
        f"--model {model} needs a target to learn: name it with --target COL or --labels FILE.{columns}"
    )


def _measure(dataset: Any, model: str | None, options: dict[str, Any], quiet: bool) -> tuple[Any, bool]:
    """Run the profile; on Ctrl-C return what is known by then, and False."""
    from lodim.profiling import ProfileInterrupted

    try:
        with bar("starting", quiet=quiet) as tell:
            return lodim.profile(dataset, model=model, progress=tell, **options), True
    except ProfileInterrupted as interrupted:
        say("Stopped; this is what is known so far.")
        return interrupted.partial, False


def _deliver(answer: Any, html: str | None, json: str | None, quiet: bool) -> None:
    """Print the answer and write the files that were asked for."""
    if "-" not in (html, json):
        typer.echo(answer.verdict if quiet else str(answer))
    failed, code = [], 0
    for path, option, render in ((json, "--json", answer.to_json), (html, "--html", answer.to_html)):
        if path == "-":
            typer.echo(render())
        elif path is not None:
            try:
                write_whole(path, render() + "\n")
            except OSError as error:  # the other file may fit
                failed.append(f"{option} {path} could not be written: {error.strerror or error}")
                code = error.errno or code
                continue
            if not quiet:
                say(f"Wrote {path} ({option[2:].upper()})")
    if failed:
        raise OSError(code, "; ".join(failed))


@app.command()
def datasets() -> None:
    """List the named data sets."""
    from lodim.datasets import summaries

    lines = summaries()
    width = max(map(len, lines))
    for name, summary in lines.items():
        typer.echo(f"{name:<{width}}  {summary}")


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(app())
