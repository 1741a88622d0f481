"""``lodim papers``: follow the papers of a field, offline.

Exit codes: 0 done, 2 bad input, 3 something is missing around lodim (the extra ``web``, SQLite's full-text index, the
network, a database server).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from lodim.files import write_whole

from .errors import MISSING, say
from .options import check_apart, check_input, check_one_of, check_output, check_regular, standard_input
from .output import AsJson, console, print_json, printable

_SHOWN_REASONS = 10
_UNTOLD = (UnicodeDecodeError, json.JSONDecodeError)  # ValueErrors that say nothing to a person

papers_app = typer.Typer(
    help="Follow the papers of a field: take in feeds and files, list, search, hand on. Works offline.",
    no_args_is_help=True,
)

File = Annotated[
    str | None,
    typer.Option(
        "--catalog",
        metavar="FILE|ADDRESS",
        envvar="LODIM_PAPERS",
        help="The file of papers, or postgresql://user@host/database; default: the user's own file.",
    ),
]
Sort = Annotated[str, typer.Option(metavar="trending|velocity|top|new|similar", help="Order of the list.")]
To = Annotated[
    str | None, typer.Option(metavar="PAPER", help="With --sort similar: a paper's identifier, or any text.")
]
Area = Annotated[
    list[str] | None,
    typer.Option(
        "--area", metavar="AREA", help="Tag (cs.LG), archive (cs) or area of methods; may be repeated."
    ),
]
Since = Annotated[
    str | None, typer.Option(metavar="WHEN", help="day, week, month, year, or a date: published since.")
]
Limit = Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, max=1000, help="Longest list.")]
Mode = Annotated[
    str, typer.Option(metavar="auto|lexical|semantic|hybrid", help="By words, by meaning, or both.")
]


@contextmanager
def opened(file: str | None, absent: str = "empty") -> Iterator[Any]:
    """Give the catalogue, and leave with 3 if what it stands on is missing.

    Where there is no file yet, ``absent`` says what becomes of it: ``make``; ``refuse``; or ``empty``, for what only
    reads: the user's own file, as long as it has not been made, is a catalogue without papers, and is not made. A file
    that was named has to be there.
    """
    from lodim.catalog.feed import Catalog

    place = ""
    try:
        place = _place_of(file, absent)
        with Catalog(place) as catalog:
            yield catalog
    except (ImportError, RuntimeError, ConnectionError, TimeoutError) as error:
        if isinstance(error, typer.Exit | BrokenPipeError):
            raise
        say(f"Error: {error}")
        raise typer.Exit(MISSING) from error
    except Exception as error:
        told = isinstance(error, ValueError | TypeError | OSError) and not isinstance(error, _UNTOLD)
        if told or not Path(place).is_file():
            raise
        from lodim.catalog.feed.sqlite import damaged, intact

        if intact(Path(place)):
            raise
        raise damaged(place) from error


def _place_of(file: str | None, absent: str) -> str:
    """Return where the catalogue is kept: a file, or an address, or in memory."""
    from lodim.catalog.feed import default_path

    if file is not None and (file == ":memory:" or "://" in file):
        return file
    path = str(default_path()) if file is None else file
    check_regular(path, "--catalog")
    if file is not None:
        check_output(file, "--catalog")  # SQLite writes beside what it reads
    if absent == "make" or (Path(path).exists() and Path(path).stat().st_size):
        return path
    if absent == "empty" and file is None:
        return ":memory:"
    named = "" if file is None else f" --catalog {file}"
    raise ValueError(f"there is no catalogue in {path!r}; 'lodim papers ingest FILE{named}' makes one")


@papers_app.command()
def ingest(
    source: Annotated[
        str, typer.Argument(metavar="FILE|URL", help="A file, - for stdin, or an https address.")
    ],
    format: Annotated[str, typer.Option(metavar="auto|atom|rss|json|jsonl|bibtex|csv|text")] = "auto",
    online: Annotated[bool, typer.Option("--online", help="Use the network; needed for an address.")] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="Trust this host as well; may be repeated.")
    ] = None,
    map: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help="For csv and jsonl, e.g. title='Paper title'."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the source: votes are kept under it.")
    ] = None,
    observed_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="When the votes were counted; default: now.")
    ] = None,
    as_json: AsJson = False,
    catalog: File = None,
) -> None:
    """Take in a list of papers: Atom, RSS, daily-papers JSON, BibTeX, CSV, JSON lines, or titles with abstracts."""
    from lodim.catalog.feed.readers import FORMATS

    check_one_of(format, ("auto", *FORMATS), "--format")
    if source != "-" and "://" not in source:
        check_input(source, "FILE")
    pairs = [item.partition("=") for item in map or ()]
    if not all(field and column for field, _, column in pairs):
        raise ValueError("--map must look like title='Paper title'")
    mapping = {field.strip(): column for field, _, column in pairs} or None
    options = {"online": online, "name": name, "mapping": mapping, "observed_at": observed_at}
    stream = standard_input().buffer if source == "-" else source
    with opened(catalog, "make") as papers:
        if allow_host:
            papers.trust(*allow_host)
        try:
            report = papers.ingest(stream, format, **options)
        except OSError as error:
            if "://" not in source:
                raise
            say(f"Error: {source} could not be fetched: {error}")
            raise typer.Exit(MISSING) from error
    _tell(report, as_json)


def _tell(report: Any, as_json: bool) -> None:
    if as_json:
        print_json(report.to_dict())
    else:
        typer.echo(str(report))
        for entry in report.rejected[:_SHOWN_REASONS]:
            say(f"  {entry.entry}: {entry.reason}")
        if len(report.rejected) > _SHOWN_REASONS:
            say(f"  and {len(report.rejected) - _SHOWN_REASONS} more (--json lists them all)")
    if report.rejected and not (report.added or report.updated or report.unchanged):
        raise typer.Exit(2)


@papers_app.command(name="list")
def list_papers(
    sort: Sort = "trending",
    to: To = None,
    area: Area = None,
    since: Since = None,
    limit: Limit = 20,
    cursor: Annotated[str | None, typer.Option(metavar="TEXT", help="Where the page before ended.")] = None,
    as_json: AsJson = False,
    catalog: File = None,
) -> None:
    """List papers, by default what is talked about."""
    from lodim.catalog.feed.trending import ORDERS

    check_one_of(sort, ORDERS, "--sort")
    with opened(catalog) as papers:
        page = papers.papers(sort, since, area or (), cursor, limit, to=to)
        _show_page(page, as_json, total=len(papers))


@papers_app.command()
def search(
    text: Annotated[
        list[str],
        typer.Argument(metavar="TEXT...", help='Words; "a phrase", -word, year:2024, area:privacy.'),
    ],
    limit: Limit = 10,
    mode: Mode = "auto",
    as_json: AsJson = False,
    catalog: File = None,
) -> None:
    """Find papers by words, and by meaning once they have sentence vectors."""
    from lodim.catalog.search import MODES

    check_one_of(mode, MODES, "--mode")
    with opened(catalog) as papers:
        _show_page(papers.search(" ".join(text), limit, mode=mode), as_json, total=len(papers))


@papers_app.command()
def show(
    paper: Annotated[
        str, typer.Argument(metavar="ID", help="Number, arXiv identifier, DOI, address or title.")
    ],
    as_json: AsJson = False,
    catalog: File = None,
) -> None:
    """Show one paper, what sources have said about it, and papers like it."""
    with opened(catalog) as papers:
        found = papers.paper(paper)
        history, near = papers.history(found.id), papers.similar(found.id)
    if as_json:
        said = {"history": [item.to_dict() for item in history], "similar": near.to_dict()["papers"]}
        print_json({**found.to_dict(), **said})
        return
    _show_paper(found, history, near.papers)


@papers_app.command()
def export(
    format: Annotated[str, typer.Option("--format", metavar="atom|json|bibtex")] = "atom",
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="- for stdout.")] = "-",
    query: Annotated[
        str | None, typer.Option("--search", metavar="TEXT", help="What a search finds, in place of a list.")
    ] = None,
    paper: Annotated[str | None, typer.Option("--paper", metavar="ID", help="One paper only.")] = None,
    sort: Sort = "new",
    to: To = None,
    area: Area = None,
    since: Since = None,
    limit: Limit = 100,
    title: Annotated[str, typer.Option(metavar="TEXT", help="Of the feed.")] = "Papers",
    address: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the feed will be, if it is published.")
    ] = None,
    catalog: File = None,
) -> None:
    """Write a list or a search as an Atom feed, a JSON feed or BibTeX."""
    from lodim.catalog.feed.trending import ORDERS

    check_one_of(format, ("atom", "json", "bibtex"), "--format")
    check_one_of(sort, ORDERS, "--sort")
    check_output(output, "--output")
    check_apart({"--output": output}, {"--catalog": catalog})
    with opened(catalog) as papers:
        if paper is not None:
            chosen = (papers.paper(paper),)
        elif query is not None:
            chosen = papers.search(query, limit).papers
        else:
            chosen = papers.papers(sort, since, area or (), None, limit, to=to).papers
        from lodim.catalog.feed import to_atom, to_bibtex, to_json_feed

        if format == "bibtex":
            text = to_bibtex(chosen)
        else:
            text = (to_atom if format == "atom" else to_json_feed)(
                chosen, title=printable(title), address=address
            )
    if output == "-":
        typer.echo(text, nl=False)
    else:
        write_whole(output, text)
        say(f"Wrote {output} ({len(chosen)} papers)")


@papers_app.command()
def backup(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Must not exist yet.")], catalog: File = None
) -> None:
    """Write a compact copy of the catalogue."""
    check_output(file, "FILE")
    if file == "-":
        raise ValueError("FILE - : a backup is a database, which cannot go to standard output")
    if file != file.encode("utf-8", "replace").decode():
        raise ValueError(f"FILE {file!r} is no name in UTF-8, as SQLite needs it")
    with opened(catalog, "refuse") as papers:
        papers.backup(file)
        say(f"Wrote {file} ({len(papers)} papers)")


@papers_app.command()
def reindex(
    meaning: Annotated[
        bool, typer.Option("--meaning", help="Also compute the sentence vectors that are missing.")
    ] = False,
    catalog: File = None,
) -> None:
    """Make the full-text index anew."""
    with opened(catalog, "refuse") as papers:
        papers.rebuild()
        vectors = f", {papers.embed()} new sentence vectors" if meaning else ""
        say(f"Indexed {len(papers)} papers{vectors}")


def _people(paper: Any, most: int = 3) -> str:
    more = len(paper.authors) - most
    return ", ".join(paper.authors[:most]) + (f" and {more} more" if more > 0 else "")


def _badge(paper: Any) -> str:
    """Return what lodim has of a paper."""
    if paper.method is None:
        return ""
    return f"{'implemented' if paper.implemented else 'planned'}: {paper.method}"


def _show_page(page: Any, as_json: bool, *, total: int) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    if as_json:
        print_json(page.to_dict())
        return
    out = console()
    width = len(str(len(page.papers))) + 2
    for i, paper in enumerate(page.papers, 1):
        table = Table.grid()
        table.add_row(f"{i:>{width - 2}}. ", Text(paper.title, style="bold"))
        out.print(table)
        facts = (paper.arxiv_id or f"no. {paper.id}", _people(paper), paper.date, paper.why, _badge(paper))
        out.print(Padding(Text(" | ".join(fact for fact in facts if fact)), (0, 0, 0, width)))
    for note in page.notes:
        out.print(f"Note: {note}")
    if not total:
        out.print("There are no papers here yet; 'lodim papers ingest FILE' takes some in.")
        return
    out.print(f"{len(page.papers)} of {page.n_matching} papers; {page.formula}")
    if page.next:
        out.print(f"More: --cursor {page.next}", soft_wrap=True)


def _show_paper(paper: Any, history: Any, near: Any) -> None:
    from rich.padding import Padding
    from rich.text import Text

    out = console()
    out.print(Text(paper.title, style="bold"))
    out.print(", ".join(paper.authors) or "no authors known")
    facts = {
        "date": paper.date,
        "where": paper.venue,
        "link": paper.link,
        "doi": paper.doi,
        "tags": ", ".join(paper.tags),
        "signals": ", ".join(f"{value:,.6g} {key}" for key, value in paper.signals.items()),
        "lodim": f"{_badge(paper)} (lodim show {paper.method})" if paper.method else None,
    }
    for name, value in facts.items():
        if value:
            out.print(f"{name}: {value}", soft_wrap=name == "link")
    out.print(f"\n{paper.abstract or 'no abstract'}")
    out.print("\nSaid by")
    for item in history:
        version = f" v{item.version}" if item.version else ""
        out.print(Padding(Text(f"{item.source}{version}, taken in {item.recorded[:10]}"), (0, 0, 0, 2)))
    if near:
        out.print("\nLike it")
        for other in near:
            line = f"{other.arxiv_id or f'no. {other.id}'} | {other.title} | {other.why}"
            out.print(Padding(Text(line), (0, 0, 0, 2)))
