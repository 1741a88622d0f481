"""Tables of the documentation, written from the records under ``evidence/``.

:func:`update_tables` fills the place between two markers of the README with one row an area; :func:`evidence_page`
writes the long form, which the documentation makes when it is built. Nothing here computes a figure: what is shown is
what was recorded.
"""

from __future__ import annotations

import importlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lodim.claims.runner import claims_by_area, list_claims
from lodim.files import write_whole
from lodim.results.records import (
    SCALES,
    Check,
    ClaimResult,
    format_expected,
    format_value,
    read_other_seeds,
    read_records,
)

__all__ = ["BEGIN", "END", "areas_table", "claims_table", "evidence_page", "read_evidence", "update_tables"]

BEGIN, END = "<!-- claims:begin -->", "<!-- claims:end -->"


read_evidence = read_records  # its name of old


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _row(*cells: str) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _headline(check: Check) -> str:
    paper = "" if check.paper is None else f" (paper: {format_value(check.paper)})"
    return f"{check.what}: {format_value(check.ours)}{paper}"


def claims_table(results: Sequence[ClaimResult], unrecorded: Sequence[str] = ()) -> str:
    """Return the results as one Markdown table, one row a claim, with its first check and how many passed.

    The names ``unrecorded`` are listed as not run.
    """
    lines = [_row("claim", "measured", "checks passed", "verdict", "time"), "|---|---|---|---|---|"]
    for result in results:
        passed = f"{sum(check.passed for check in result.checks)} of {len(result.checks)}"
        paper = f"[{result.arxiv}](https://arxiv.org/abs/{result.arxiv})"
        claim = f"{result.statement} ({paper}; `{result.name}`, {result.scale})"
        measured = _headline(result.checks[0]) if result.checks else result.message
        lines.append(_row(claim, measured, passed, f"**{result.verdict}**", f"{result.seconds:.0f} s"))
    lines += [_row(f"`{name}`", "not run yet", "", "", "") for name in unrecorded]
    return "\n".join(lines)


def _machine_line(result: ClaimResult) -> str:
    machine, libraries = result.machine, result.versions
    gpu = machine.get("gpu") or "no GPU"
    where = f"{machine.get('cpu')}, {machine.get('cores')} cores, {machine.get('memory_gib')} GiB, {gpu}"
    return f"{where}; " + ", ".join(f"{name} {version}" for name, version in libraries.items())


def _seed_line(result: ClaimResult) -> str:
    """Return what the run of another seed said: its verdict, and each check that did not pass."""
    missed = [
        f"{check.what}: {format_value(check.ours)} (expected {format_expected(check.expected)})"
        for check in result.checks
        if not check.passed
    ]
    why = "; ".join(missed) or result.message
    return f"Seed {result.seed}: {result.verdict}{f' ({why})' if why else ''}."


def _claim_section(result: ClaimResult, others: Sequence[ClaimResult] = ()) -> list[str]:
    """Return one claim's part of the evidence page, as lines; ``others`` are its runs with other seeds."""
    arxiv = f"[arXiv {result.arxiv}](https://arxiv.org/abs/{result.arxiv})"
    lines = [
        f"### {result.name}, {result.scale} scale: {result.verdict}",
        "",
        f"{result.statement} ({arxiv})",
        "",
    ]
    if result.message:
        lines += [f"> {result.message}", ""]
    if result.checks:
        lines += [_row("check", "ours", "expected", "paper", "passed"), "|---|---|---|---|---|"]
        for check in result.checks:
            passed = "yes" if check.passed else "**no**" if check.essential else "no (not essential)"
            paper = "" if check.paper is None else format_value(check.paper)
            lines.append(
                _row(check.what, format_value(check.ours), format_expected(check.expected), paper, passed)
            )
        lines.append("")
    lines += [f"- {note}" for note in result.notes] + ([""] if result.notes else [])
    lines += [line for other in others for line in (_seed_line(other), "")]
    commit = f", revision {result.commit}" if result.commit else ""
    lines += [
        f"`{result.command}`: {result.seconds:.0f} s on {result.recorded}{commit}.",
        f"{_machine_line(result)}.",
        "",
    ]
    return lines


def evidence_page(out: str | os.PathLike[str] = "evidence") -> str:
    """Return every claim recorded in a folder with its checks, its notes and what it ran on, as Markdown."""
    results = read_evidence(out)
    if not results:
        return "No claim has been recorded yet.\n"
    lines = [claims_table(results, _unrecorded(results)), ""]
    others = read_other_seeds(out)
    for result in results:
        same = [other for other in others if (other.name, other.scale) == (result.name, result.scale)]
        lines += _claim_section(result, same)
    return "\n".join(lines)


def _unrecorded(results: Sequence[ClaimResult]) -> list[str]:
    recorded = {result.name for result in results}
    return [claim.name for claim in list_claims() if claim.name not in recorded]


def _fill(text: str, table: str, path: Path) -> str:
    """Return ``text`` with the table between the markers."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{path.name} must hold {BEGIN} once and {END} once after it")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


def areas_table(
    results: Sequence[ClaimResult], docs: Path | None = None, others: Sequence[ClaimResult] = ()
) -> str:
    """Return one row an area: its systems, and how many of their claims hold, differ, fail, or were not run.

    A system links to ``<area>/<system>.md`` where that exists in ``docs``, the documentation's folder. The last column
    says how many of the claims that were also run with another seed (``others``) got the same verdict there.
    """
    verdicts = {result.name: result.verdict for result in results if result.scale == SCALES[0]}
    again: dict[str, list[str]] = {}
    for other in others:
        if other.scale == SCALES[0]:
            again.setdefault(other.name, []).append(other.verdict)
    lines = [
        _row("area", "systems", "claims: hold", "differ", "fail", "not run", "same at another seed"),
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for area, claims in sorted(claims_by_area().items()):
        said = Counter(verdicts.get(claim.name, "not run") for claim in claims)
        systems = sorted({claim.name.partition("/")[0] for claim in claims})
        shown = ", ".join(_linked(system, docs, f"{area}/{system}.md") for system in systems)
        counts = (said["holds"], said["differs"], said["fails"] + said["error"], said["not run"])
        meaning = (importlib.import_module(f"lodim.{area}").__doc__ or area).splitlines()[0].partition(":")[0]
        tried = [claim.name for claim in claims if claim.name in again]
        same = sum(set(again[name]) == {verdicts.get(name)} for name in tried)
        lines.append(_row(f"`{area}`: {meaning}", shown, *map(str, counts), f"{same} of {len(tried)}"))
    return "\n".join(lines)


def _linked(text: str, docs: Path | None, page: str) -> str:
    return f"[{text}]({docs.name}/{page})" if docs is not None and (docs / page).is_file() else text


def update_tables(root: str | os.PathLike[str] = ".", check: bool = False) -> list[Path]:
    """Write the table of areas into a checkout's README; return the README's path in a list if it was stale.

    The folder ``root`` has ``README.md``, ``docs/`` and ``evidence/``; with ``check`` nothing is changed. A README that
    does not hold the place of the table once is a ValueError.
    """
    folder = Path(root)
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8")
    evidence = folder / "evidence"
    table = areas_table(read_records(evidence), folder / "docs", read_other_seeds(evidence))
    filled = _fill(text, table, path)
    if filled == text:
        return []
    if not check:
        write_whole(path, filled)
    return [path]
