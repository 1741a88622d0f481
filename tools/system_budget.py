"""Print what every system and every room costs to read and to test, beside the guide for systems of its size.

    python tools/system_budget.py                         # lines and files
    python tools/system_budget.py --junit tests.xml       # the tests' seconds too, as pytest --junitxml wrote them

A system is found by its card's slug, which is its path everywhere: ``src/lodim/<area>/<slug>``, ``tests/<area>/<slug>``
or ``test_<slug>.py``. Lines are those of source files, docstrings included; shared pieces of an area and tests that
belong to no system count for the area's room. The guide is no limit: a system beyond it is marked and says why. What
fails is a system without a size, or tests and files that belong to no room.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from lodim.catalog import load_cards
from lodim.catalog.vocabulary import AREAS

ROOT = Path(__file__).resolve().parents[1]
SOURCE, TESTS = ROOT / "src" / "lodim", ROOT / "tests"

# size: lines of source, seconds of fast tests, files, tests' lines as a share of the source
GUIDE = {"S": (400, 2, 1), "M": (900, 4, 3), "L": (1800, 6, 6)}
TEST_SHARE = 0.7

_SMALL = "barron-solver partitive-partitioning perturb-then-diagonalize transductive-few-shot"
_MIDDLE = """
ambient-diffusion bilevel black-box-surrogates conjugate-directions differentiable-persistence dream-land
federated-geometry finetuning flora functional-tucker generalization-difficulty harmonic-denoisers
high-dimensional-kde hypercomplex invariance-certificates latent-quantization learning-to-relax
local-sparse-regression manifold-clustering marginalization-models masked-diffusion mode-interpolation near-collapse
neural-collapse nm-sparsity novel-class-discovery perturbed-likelihood pfgmpp pretraining-advantage
probability-estimation s4d sensitivity-sampling simplex-encoding sketched-federated supervised-dictionary
wide-cnn-kernels
"""
_LARGE = """
argus3d bsp-net chaos-benchmark convergent-learning dataset-properties diffusion-mbir epigraf guided-diffusion koopman
multiparameter-persistence objective-landscapes operator-networks private-gsd private-similarities quantization
retrieval-diffusion
"""
SIZES = {
    slug: size for size, slugs in (("S", _SMALL), ("M", _MIDDLE), ("L", _LARGE)) for slug in slugs.split()
}

# Where a system's folder has another name: a public function has the slug's
FOLDERS = {"generalization-difficulty": "difficulty"}

# Files beside the rooms: they are about the library as a whole
WHOLE = {"__init__", "_renamed", "renamed", "conftest", "import_time", "annotations"}

REASONS = {
    "ambient-diffusion": "a generator, comparisons, prices with intervals, noise from data, and a bench of theory",
    "convergent-learning": "a third of it is the toolbox of similarities, each measure with its source",
    "dataset-properties": "three measures of one paper, each an estimator of its own",
    "differentiable-persistence": "a layer, losses and a descent on points, a file each",
    "diffusion-mbir": "six operators, three classical solvers and the method, each against known solutions",
    "finetuning": "task vectors are files, each kind of damage to which is tested",
    "flora": "adapters for eight kinds of layers, put in and taken out of any model, with their files",
    "generalization-difficulty": "one formula for labels and for policies, and what it is fed with from data",
    "harmonic-denoisers": "a test of two nets, a sampler with four kinds of measurement, and the best fixed basis",
    "high-dimensional-kde": "the three regimes: theory, measured exponents, five bandwidths, a verdict that can say no",
    "hypercomplex": "dense, convolutional and embedding layers, a converter, algebras learnt from products",
    "black-box-surrogates": "seven rankings, two networks, rules, single rows; every figure beside what chance gives",
    "latent-quantization": "a filter with proofs of its code, eight attacks, and two reports that doubt themselves",
    "manifold-clustering": "tables, images and given features; the geometry of any clusters; a peer to compare with",
    "marginalization-models": "queries, training from data and from energies, an exact lattice, and molecules",
    "masked-diffusion": "the bound in two forms, two samplers with prompts and blocks, the law of coarse draws",
    "mode-interpolation": "a detector with its calibration, sampling that drops early, mass between modes, recursion",
    "multiparameter-persistence": "four kinds of data, three descriptors, two decompositions, a pipeline",
    "near-collapse": "a solver, a flow, a response with its spectrum, training by layers, each with what it refuses",
    "nm-sparsity": "masks, their schedules and recipes, a sparsifier that resumes, storage, and the unstructured rival",
    "novel-class-discovery": "nets trained as a stack, two clusterings, a search, a count, and the rival method",
    "objective-landscapes": "seven ways to draw a subspace, searches and clocks, evolution, messages, bounds",
    "partitive-partitioning": "reports that judge any clusterer: does it repeat, is it compact, four curves over k",
    "pretraining-advantage": "three models of x, three simulators, joint EM, and the derivation of the excess risk",
    "probability-estimation": "two trained estimators, four losses, six calibrators, a test with an interval, a theory",
    "quantization": "a survey: grids, codebooks, five roundings, integer execution, bits for each layer",
    "retrieval-diffusion": "two generators, of pixels and of codes, on one database that has rules of its own",
    "sensitivity-sampling": "scores for every p, five rules, streams, a solver of its own, and certificates",
    "invariance-certificates": "two modes of three measures, models that make environments, a test, and four fits",
    "simplex-encoding": "three lattices in any dimension, three kinds of fields and of fits, and what each costs",
    "supervised-dictionary": "two models, two solvers of one objective, draws of the model, and a curve over its dial",
    "transductive-few-shot": "a solver of batches whose energy provably falls, an estimator, and a bench of episodes",
    "wide-cnn-kernels": "a kernel by blocks, regression exact and by landmarks, spectra, curves, finite networks",
}


def read(files: Iterable[Path]) -> tuple[int, int]:
    """Return the number of files and of their lines."""
    texts = [file.read_text(encoding="utf-8") for file in files]
    return len(texts), sum(len(text.splitlines()) for text in texts)


def systems() -> dict[str, tuple[str, str]]:
    """Return (area, name in paths) of every card by slug; planned ones too, for those may have code already."""
    return {
        card.slug: (card.area, FOLDERS.get(card.slug, card.slug.replace("-", "_"))) for card in load_cards()
    }


def owner(path: Path, named: dict[tuple[str, str], str]) -> str:
    """Return the system or the room that a source or test file belongs to, the path taken from its root."""
    room, *inside = (part.removesuffix(".py").removeprefix("test_") for part in path.parts)
    if room in WHOLE:
        return "the library"
    return named.get((room, inside[0]), room) if inside else room


def seconds_of(junit: Path) -> dict[Path, float]:
    """Return the seconds of every test file in a report of pytest, set-up included."""
    found: dict[Path, float] = defaultdict(float)
    for case in ElementTree.parse(junit).iter("testcase"):
        parts = case.get("classname", "").removeprefix("tests.").split(".")
        while parts and not (TESTS.joinpath(*parts[:-1]) / f"{parts[-1]}.py").is_file():
            parts.pop()  # a test class's name
        if parts:
            found[Path(*parts[:-1], f"{parts[-1]}.py")] += float(case.get("time", 0))
        else:
            found[Path(case.get("classname", "?"))] += float(case.get("time", 0))
    return found


def main() -> int:
    """Print both tables; return 1 for a system without a size or something of no room."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--junit", type=Path, action="append", default=[], help="reports of the fast tests")
    reports = parser.parse_args().junit

    slugs = systems()
    # tests of the system "generalization-difficulty" have the slug's name, its source has another
    named = {(area, name): slug for slug, (area, name) in slugs.items()}
    named |= {(area, slug.replace("-", "_")): slug for slug, (area, _) in slugs.items()}
    source, tests = defaultdict(list), defaultdict(list)
    for root, found in ((SOURCE, source), (TESTS, tests)):
        for file in sorted(root.rglob("*.py")):
            found[owner(file.relative_to(root), named)].append(file)
    seconds: dict[str, float] = defaultdict(float)
    for report in reports:
        for path, value in seconds_of(report).items():
            seconds[owner(path, named)] += value

    written = [slug for slug in slugs if slug in source]
    print(f"{'system':<28} size {'files':>9} {'lines':>13} {'tests/lines':>11} {'seconds':>13}")
    for slug in sorted(written, key=lambda slug: (slugs[slug][0], slug)):
        most_lines, most_seconds, most_files = GUIDE[SIZES.get(slug, "M")]
        files, lines = read(source[slug])
        _, test_lines = read(tests[slug])
        share, took = test_lines / max(lines, 1), seconds[slug]
        beyond = (files > most_files, lines > most_lines, share > TEST_SHARE, took > most_seconds)
        marks = ["!" if over else " " for over in beyond]
        print(
            f"{slug:<28}  {SIZES.get(slug, '?')}   {files:>3}{marks[0]} of {most_files:<2}"
            f"{lines:>6}{marks[1]} of {most_lines:<4}{share:>9.2f}{marks[2]} "
            + (f"{took:>7.1f}{marks[3]} of {most_seconds:<3}" if reports else f"{'':>14}")
            + (f" {REASONS.get(slug, 'no reason given')}" if any(beyond) else "")
        )

    rooms = sorted((set(source) | set(tests)) - set(slugs))
    print(f"\n{'room':<28}      {'files':>9} {'lines':>13} {'tests/lines':>11} {'seconds':>13}")
    for room in rooms:
        files, lines = read(source[room])
        _, test_lines = read(tests[room])
        share = f"{test_lines / lines:9.2f}" if lines else f"{test_lines:>7} l"
        what = " (shared pieces)" if room in AREAS else ""
        print(
            f"{room + what:<28}      {files:>4}     {lines:>7}       {share:>11}"
            + (f"  {seconds[room]:>7.1f}" if reports else "")
        )
    n_files, n_lines = (sum(x) for x in zip(*map(read, source.values()), strict=True))
    _, n_test_lines = (sum(x) for x in zip(*map(read, tests.values()), strict=True))
    print(
        f"{'all':<28}      {n_files:>4}     {n_lines:>7}       {n_test_lines / n_lines:>9.2f}  "
        + (f"  {sum(seconds.values()):>7.1f}" if reports else "")
    )

    wrong = [
        f"{slug} has no size: give it one in {Path(__file__).name}" for slug in slugs if slug not in SIZES
    ]
    wrong += [f"{slug} has a size and no card" for slug in SIZES if slug not in slugs]
    known = {*source, "contract", *slugs}
    wrong += [f"tests of {room!r} belong to no room of src/lodim" for room in {*tests, *seconds} - known]
    for line in wrong:
        print(line, file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
