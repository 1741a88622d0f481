"""Finding claims and running them: :func:`list_claims`, :func:`run_claim`, :func:`run_claims`.

There is no register of claims: every module below ``lodim.claims`` that defines ``CLAIM`` is one. A run that completes
(or breaks) is written to ``<out>/claims/<name>.<scale>.json``, one of a seed other than 0 to
``<out>/seeds/<name>.<scale>.<seed>.json``; a run that cannot start for want of data or of an extra leaves the record of
an earlier one alone.
"""

from __future__ import annotations

import importlib
import itertools
import os
import pkgutil
import re
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lodim.claims
import lodim.datasets
from lodim.claims.machine import describe_machine, source_revision, versions
from lodim.claims.result import Claim, ClaimSkipped, Watcher
from lodim.extras import extras, missing
from lodim.files import write_whole
from lodim.parallel import Outcome, run_jobs
from lodim.results.records import ClaimResult, evidence_path, verdict_of
from lodim.validation import check_choice, check_in_range, close_matches, warn

__all__ = ["claims_by_area", "evidence_path", "find_claim", "list_claims", "run_claim", "run_claims"]


def claims_by_area(system: str | None = None) -> dict[str, list[Claim]]:
    """Return the ``CLAIM`` of each module below :mod:`lodim.claims`, by area; two of one name are a ValueError.

    With ``system``, a slug, only that system's modules are imported.
    """
    found: dict[str, list[Claim]] = {}
    place: dict[str, str] = {}
    for info in pkgutil.walk_packages(lodim.claims.__path__, "lodim.claims."):
        parts = info.name.split(".")
        if system is not None and (len(parts) < 4 or parts[3] != system.replace("-", "_")):
            continue
        claim = getattr(importlib.import_module(info.name), "CLAIM", None)
        if not isinstance(claim, Claim):
            continue
        if claim.name in place:
            raise ValueError(f"two claims are called {claim.name!r}; one of them is in {info.name}")
        place[claim.name] = info.name
        found.setdefault(parts[2], []).append(claim)
    return {area: sorted(claims, key=lambda claim: claim.name) for area, claims in found.items()}


def list_claims() -> list[Claim]:
    """Return every claim, sorted by name; see :func:`claims_by_area`."""
    claims = itertools.chain.from_iterable(claims_by_area().values())
    return sorted(claims, key=lambda claim: claim.name)


def find_claim(name: str) -> Claim:
    """Return the claim called ``name``, or once called so (with a warning that says its name of today).

    The ValueError of an unknown name lists what exists.
    """
    of_system = itertools.chain.from_iterable(claims_by_area(name.partition("/")[0]).values())
    if found := [claim for claim in of_system if claim.name == name]:
        return found[0]  # without importing all others
    claims = {claim.name: claim for claim in list_claims()}
    for claim in claims.values():
        if name in claim.formerly:
            warn(f"the claim {name!r} is called {claim.name!r} now", FutureWarning)
            return claim
    if name not in claims:
        systems = dict.fromkeys(one.split("/")[0] for one in claims)
        raise ValueError(
            f"no claim is called {name!r}.{close_matches(name, claims)} `lodim claims list` lists them; there are "
            f"claims of {', '.join(systems)}"
        )
    return claims[name]


def _missing(needs: Sequence[str]) -> str | None:
    """Return why a claim cannot run here, or None if everything it needs is there."""
    for need in needs:
        if need == "gpu":
            import torch

            if not torch.cuda.is_available():
                return "the full scale is for a GPU, and torch sees none here"
        elif need in extras():
            if absent := missing(need):
                return f"{', '.join(absent)} not installed: pip install 'lodim[{need}]'"
        else:
            try:
                lodim.datasets.load(need, split="test")
            except OSError as error:
                return f"data set {need!r} is not available: {error}"
    return None


def _execute(claim: Claim, scale: str, seed: int, progress: Watcher) -> dict[str, Any]:
    """Run the claim's experiment and return the fields of :class:`ClaimResult` that depend on how it went."""
    absent = _missing(claim.needed(scale))
    if absent is not None:
        return {"verdict": "skipped", "checks": (), "message": absent}
    try:
        findings = claim.run(scale, seed, progress)
        checks = tuple(findings.checks)
        return {
            "verdict": verdict_of(checks),
            "checks": checks,
            "figures": findings.figures,
            "notes": findings.notes,
        }
    except ClaimSkipped as reason:
        return {"verdict": "skipped", "checks": (), "message": str(reason)}
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = _nameless(str(error))
        where = f"{Path(last.filename).name}, line {last.lineno}"
        return {"verdict": "error", "checks": (), "message": f"{type(error).__name__}: {said} ({where})"}


def _nameless(text: str) -> str:
    """Records name no folder of this machine."""
    return re.sub(r"(?:/[\w.-]+)+/", ".../", text)


def run_claim(
    name: str,
    scale: str = "laptop",
    seed: int = 0,
    out: str | os.PathLike[str] | None = "evidence",
    *,
    progress: Watcher = None,
) -> ClaimResult:
    """Run one claim at the scale ``"laptop"`` or ``"full"`` and record what came out.

    The verdict is ``"skipped"`` when data or an extra is missing and ``"error"`` when the claim raised. An unknown
    claim, or a scale that it does not have, is a ValueError.

    Parameters
    ----------
    seed : int
        Everything random in it derives from this.
    out : path, optional
        Evidence folder; None records nothing.
    progress : callable, optional
        ``progress(done, text)`` with done in [0, 1].
    """
    claim = find_claim(name)
    check_choice(scale, claim.scales, f"scale of {name}")
    check_in_range(seed, "seed", low=0, integer=True)
    start = time.perf_counter()
    went = _execute(claim, scale, int(seed), progress)
    return _recorded(claim, scale, int(seed), out, time.perf_counter() - start, went)


def _recorded(
    claim: Claim,
    scale: str,
    seed: int,
    out: str | os.PathLike[str] | None,
    seconds: int | float,
    went: dict[str, Any],
) -> ClaimResult:
    result = ClaimResult(
        name=claim.name,
        arxiv=claim.arxiv,
        statement=claim.statement,
        scale=scale,
        seconds=round(seconds, 2),
        seed=seed,
        command=f"lodim claims run {claim.name} --scale {scale} --seed {seed}",
        recorded=datetime.now(UTC).date().isoformat(),
        commit=source_revision(),
        machine=describe_machine(),
        versions=versions(),
        **went,
    )
    if out is not None and result.verdict != "skipped":
        path = evidence_path(claim.name, scale, out, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, result.to_json() + "\n")
    return result


def run_claims(
    names: Sequence[str] | None = None,
    scale: str = "laptop",
    seed: int = 0,
    out: str | os.PathLike[str] | None = "evidence",
    *,
    fast: bool = False,
    n_jobs: int = 1,
    ray: str | None = None,
    on_done: Callable[[ClaimResult], None] | None = None,
) -> list[ClaimResult]:
    """Run several claims, in this process, in several, or on a Ray cluster; the results are in the order of ``names``.

    Claims that raise, or whose process dies, are results with verdict ``"error"``. ``scale``, ``seed`` and ``out`` are
    as in :func:`run_claim`.

    Parameters
    ----------
    names : sequence of str, optional
        Default: all that have this scale.
    fast : bool
        Without ``names``: only the claims marked as fast.
    n_jobs : int
        Local processes.
    ray : str, optional
        Address of a Ray cluster.
    on_done : callable, optional
        Called with each result as it comes.
    """
    if names is None:
        names = [c.name for c in list_claims() if scale in c.scales and (c.fast or not fast)]
    for name in names:
        check_choice(scale, find_claim(name).scales, f"scale of {name}")

    results: dict[int, ClaimResult] = {}

    def finish(index: int, outcome: Outcome[ClaimResult]) -> None:
        result = outcome.value
        if result is None:
            said = (outcome.error or "").strip().splitlines()[-1]
            went = {"verdict": "error", "checks": (), "message": _nameless(said)}
            result = _recorded(find_claim(names[index]), scale, seed, out, 0.0, went)
        results[index] = result
        if on_done is not None:
            on_done(result)

    jobs = [(name, scale, seed, None if out is None else str(Path(out).resolve())) for name in names]
    run_jobs(_run_job, jobs, n_jobs=n_jobs, ray=ray, on_done=finish)
    return [results[index] for index in range(len(names))]


def _run_job(job: tuple[str, str, int, str | None]) -> ClaimResult:
    return run_claim(*job)
