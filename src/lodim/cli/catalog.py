"""``lodim methods``, ``show``, ``search``, ``recommend``: find the method that fits, offline."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from .options import check_input, check_one_of, standard_input
from .output import AsJson, console, print_json, tell_written

_SEMANTIC = "words and meaning"
_MODES = {
    "hybrid": _SEMANTIC,
    "lexical": "words only (the extra 'semantic' adds meaning)",
    "semantic": "meaning only",
}

Area = Annotated[str | None, typer.Option("--area", metavar="AREA", help="Only this area, e.g. landscape.")]
Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--data-kind", metavar="KIND", help="Takes data of this kind, e.g. tabular; may be repeated."
    ),
]
NoGpu = Annotated[bool, typer.Option("--no-gpu", help="Leave out what is hopeless without a GPU.")]
Available = Annotated[bool, typer.Option("--available", help="Only what can be used today.")]
Mode = Annotated[
    str, typer.Option(metavar="auto|hybrid|lexical|semantic", help="By words, by meaning, or both.")
]
Most = Annotated[int, typer.Option("--most", "-k", metavar="N", min=1, help="Longest list.")]


def register(app: typer.Typer) -> None:
    """Add the catalogue's commands to the command line."""
    for command in (methods, show, search, recommend):
        app.command()(command)


def _table(*columns: tuple[str, dict[str, Any]]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for name, options in columns:
        table.add_column(name, **options)
    return table


def methods(
    area: Area = None,
    data_kind: Annotated[
        str | None, typer.Option(metavar="KIND", help="Takes data of this kind, e.g. tabular.")
    ] = None,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="About this, e.g. clustering.")] = None,
    no_gpu: NoGpu = False,
    available: Available = False,
    as_json: AsJson = False,
    write: Annotated[
        bool,
        typer.Option("--write", help="In a checkout: refresh the digest of claims that installations carry."),
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Only say whether that is up to date.")] = False,
) -> None:
    """List the methods: what each does, whether it can be used, what its claims say."""
    if write or check:
        from lodim.catalog.tables import update_documents

        tell_written(update_documents(".", check=check), check=check)
        return
    from lodim.catalog.cards import evidence_of, load_cards
    from lodim.catalog.cards import methods as chosen

    cards = chosen(
        area=area,
        data_kind=data_kind,
        tag=tag,
        gpu=False if no_gpu else None,
        status="available" if available else None,
    )
    if as_json:
        print_json([{**c.to_dict(), "status": c.status, "evidence": evidence_of(c)} for c in cards])
        return
    table = _table(
        ("method", {"no_wrap": True}), ("what it does", {"ratio": 1}), ("claims", {"max_width": 14})
    )
    for place in dict.fromkeys(card.area for card in sorted(cards, key=lambda c: c.area)):
        table.add_row(f"[{place}]", style="bold")
        for card in (c for c in cards if c.area == place):
            said = evidence_of(card) if card.status == "available" else "planned"
            table.add_row(card.slug, card.one_line, said)
    if cards:
        console().print(table)
    console().print(f"{len(cards)} of {len(load_cards())} methods")


def show(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="Slug, arXiv identifier or title.")],
    mode: Annotated[
        str,
        typer.Option(
            metavar="lexical|semantic", help="How methods like it are found: by words or by meaning."
        ),
    ] = "lexical",
    as_json: AsJson = False,
) -> None:
    """Show the card of one method (slug, arXiv identifier or title) and methods like it."""
    from lodim.catalog.baseline import claim_records
    from lodim.catalog.search import MODES, find_card
    from lodim.catalog.similar import similar

    check_one_of(mode, MODES, "--mode")
    card = find_card(method)
    near = similar(card.slug, mode=mode)
    records = [claim_records()[name] for name in card.claims if name in claim_records()]
    if as_json:
        claims = [record.to_dict() for record in records]
        print_json({**card.to_dict(), "status": card.status, "evidence": claims, "similar": near.to_dict()})
        return
    _show_card(card, near)
    _show_claims(card, records)
    if card.snippet:
        from rich.syntax import Syntax

        console().print()
        console().print(Syntax(card.snippet.rstrip(), "python", background_color="default"))


def _show_card(card: Any, near: Any) -> None:
    from rich.text import Text

    out = console()
    out.print(Text(card.title, style="bold"))
    out.print(f"{card.first_author} and others, {card.year}; {card.paper}\n")
    out.print(card.one_line + "\n", style="italic")
    out.print(card.summary + "\n")
    needs = card.needs
    extras = f"; pip install 'lodim[{','.join(needs.extras)}]'" if needs.extras and card.entry_points else ""
    facts = {
        "status": card.status,
        "area": ", ".join(card.areas),
        "about": ", ".join(card.problem_tags),
        "data": ", ".join(card.data_kinds),
        "needs": f"at least {needs.min_rows:,} rows; GPU: {needs.gpu}{extras}",
        "cost": card.cost,
        "use": "\n".join(card.entry_points) or "not written yet",
        "trust": card.threat_model,
        "authors' code": f"https://github.com/{card.upstream_code}" if card.upstream_code else None,
        "see also": ", ".join(card.see_also),
        "similar": ", ".join(f"{m.slug} ({m.likeness})" for m in near.methods),
    }
    table = _table(("", {"style": "bold", "no_wrap": True}), ("", {"ratio": 1}))
    table.show_header, table.box = False, None
    for name, value in facts.items():
        if value:
            table.add_row(name, value)
    out.print(table)


def _show_claims(card: Any, records: list[Any]) -> None:
    if not card.claims:
        return
    table = _table(
        ("claim", {"ratio": 1}),
        ("verdict", {}),
        ("checks", {}),
        ("time", {"justify": "right"}),
        ("run on", {}),
    )
    for record in records:
        checks = f"{record.checks_passed} of {record.checks}"
        table.add_row(record.name, record.verdict, checks, f"{record.seconds:.0f} s", record.recorded)
    for name in card.claims:
        if name not in {record.name for record in records}:
            table.add_row(name, "not run", "", "", "")
    console().print(table)
    machines = dict.fromkeys(record.machine for record in records)
    if machines:
        console().print(
            f"Recorded at laptop scale on {'; '.join(machines)}. 'lodim claims run NAME' runs one again."
        )


def search(
    text: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXT...",
            help='A problem in plain words; "a phrase", -word, area:privacy, data:tabular, year:2024, has:claim.',
        ),
    ],
    most: Most = 10,
    mode: Mode = "auto",
    as_json: AsJson = False,
) -> None:
    """Find methods by a problem in plain words."""
    from lodim.catalog.search import MODES
    from lodim.catalog.search import search as find

    check_one_of(mode, MODES, "--mode")
    found = find(" ".join(text), most, mode=mode)
    if as_json:
        print_json(found.to_dict())
        return
    out = console()
    if found.hits:
        table = _table(
            ("", {"justify": "right"}),
            ("method", {"no_wrap": True}),
            ("what it does", {"ratio": 1}),
            ("", {}),
        )
        for i, hit in enumerate(found.hits, 1):
            table.add_row(str(i), hit.slug, hit.one_line, hit.status)
        out.print(table)
    for note in found.notes:
        out.print(f"Note: {note}")
    cut = found.mode == "lexical" and len(found.hits) < found.n_found
    shown = f", {len(found.hits)} shown" if cut else ""
    out.print(f"found {found.counted}{shown}, by {_MODES[found.mode]}")


def recommend(
    text: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT...", help="The problem in plain words.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="FILE", help="JSON that 'lodim profile --json' wrote; - for stdin.")
    ] = None,
    data_kind: Kinds = None,
    rows: Annotated[int | None, typer.Option(metavar="N", min=1, help="Samples at hand.")] = None,
    area: Area = None,
    no_gpu: NoGpu = False,
    available: Available = False,
    most: Most = 5,
    mode: Mode = "auto",
    as_json: AsJson = False,
) -> None:
    """Recommend methods for a problem in words, or for a profile's figures, with reasons."""
    from lodim.catalog.recommend import recommend as advise
    from lodim.catalog.search import MODES

    check_one_of(mode, MODES, "--mode")
    problem: Any = {} if profile is None else _read_profile(profile)
    conditions = {
        "text": " ".join(text) if text else None,
        "data_kinds": data_kind or None,
        "n_rows": rows,
        "areas": area,
        "gpu": False if no_gpu else None,
        "status": "available" if available else None,
    }
    found = advise(problem, most, mode=mode, **conditions)
    if as_json:
        print_json(found.to_dict())
        return
    _show_recommendations(found)


def _read_profile(path: str) -> Any:
    from pathlib import Path

    from lodim.catalog.facts import is_profile

    if path != "-":
        check_input(path, "--profile")
    try:
        made = json.loads(standard_input().read() if path == "-" else Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"--profile {path} is not JSON, nor any text in UTF-8") from error
    except (ValueError, RecursionError) as error:  # RecursionError: nested without end
        raise ValueError(f"--profile {path} is not JSON: {error}") from error
    if not is_profile(made):
        raise ValueError(f"--profile {path} is not what 'lodim profile --json FILE' writes")
    return made


def _show_recommendations(found: Any) -> None:
    from rich.padding import Padding
    from rich.text import Text

    out = console()
    for i, method in enumerate(found.recommended, 1):
        out.print(Text.assemble((f"{i}. {method.slug}", "bold"), f"  {method.area}, {method.status}"))
        out.print(Padding(Text(method.one_line, style="italic"), (0, 0, 0, 3)))
        for reason in method.reasons:
            out.print(Padding(Text(f"because {reason}"), (0, 0, 0, 3)))
    if not found.recommended:
        out.print("Nothing fits.")
    if found.excluded:
        out.print(f"\n{found.n_fitting} methods meet the conditions. Left out:")
        for condition, slugs in found.excluded_by.items():
            shown = ", ".join(slugs[:6]) + (f" and {len(slugs) - 6} more" if len(slugs) > 6 else "")
            out.print(Padding(Text(f"{condition}: {shown}"), (0, 0, 0, 3)))
    for note in found.notes:
        out.print(f"Note: {note}")
    if found.mode != "figures":
        out.print(f"\nWords compared by {_MODES[found.mode]}.")
