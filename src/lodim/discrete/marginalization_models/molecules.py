"""Molecules as strings: a collection, their tokens, what samples are worth, and energies that ask for a property.

:func:`moses_smiles` reads a collection; ``Vocabulary.of(smiles, units=molecule_units(smiles))`` cuts SMILES or SELFIES
into atoms and bonds; :func:`molecule_report` judges samples; :func:`molecule_log_f` is a target for
:func:`~lodim.discrete.fit_energy`, as in section 5.4 of the paper.

Sources: S. Liu, P. Ramadge, R. Adams, 2023, arXiv 2310.12920. The collection: D. Polykovskiy and others, arXiv
1811.12823 (MOSES), whose files are in the wheel ``molsets``; nothing of it is imported, since it needs old versions of
other packages.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from lodim.discrete.vocabulary import Vocabulary
from lodim.extras import require
from lodim.results import Result
from lodim.validation import check_choice, check_counts, check_in_range, checked

__all__ = [
    "MoleculeReport",
    "molecule_log_f",
    "molecule_report",
    "molecule_scores",
    "molecule_units",
    "moses_smiles",
]

SCORES = ("logp", "qed", "sa")
SPLITS = ("train", "test", "test_scaffolds")


@checked
def moses_smiles(split: str = "train", n: int | None = None) -> list[str]:
    """Return SMILES strings of MOSES from the installed wheel ``molsets``: the first n, or all.

    Parameters
    ----------
    split : {"train", "test", "test_scaffolds"}
        1,584,663, 176,074 and 176,225 molecules.

    Raises
    ------
    ModuleNotFoundError
        The wheel is not there.
    """
    check_choice(split, SPLITS, "split")
    if n is not None:
        check_counts(n=n)
    try:
        found = metadata.distribution("molsets").locate_file(f"moses/dataset/data/{split}.csv.gz")
    except metadata.PackageNotFoundError as error:
        raise ModuleNotFoundError(
            "the molecules of MOSES are in the wheel molsets: pip install --no-deps molsets"
        ) from error
    with gzip.open(Path(str(found))) as file:
        rows = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8"))
        return [row["SMILES"] for row in islice(rows, n)]


@checked
def molecule_units(strings: Sequence[str]) -> tuple[str, ...]:
    """Return what has several characters in SMILES or SELFIES and is one token: Cl, Br, %10 and what is in brackets."""
    found = {unit for text in _several(strings, "strings") for unit in re.findall(r"\[[^]]*\]|%\d\d", text)}
    return ("Br", "Cl", *sorted(found))


def _several(strings: Sequence[str], name: str) -> Sequence[str]:
    if isinstance(strings, str):
        raise TypeError(f"{name} must be several strings, got one; of a single one, [text]")
    return strings


@dataclass(frozen=True)
class MoleculeReport(Result):
    """What generated strings are worth.

    Attributes
    ----------
    valid : float
        Share that are molecules.
    unique : float
        Share of the valid ones that are different, as molecules; NaN if none is.
    novel : float
        Share of the different ones that are not in the training set; NaN if there are none.
    n : int
        Strings.
    """

    valid: float
    unique: float
    novel: float
    n: int

    def __str__(self) -> str:
        return (
            f"{self.valid:.1%} of {self.n} strings are molecules, of these {self.unique:.1%} different, of those "
            f"{self.novel:.1%} new"
        )


@checked
def molecule_report(smiles: Sequence[str], train: Sequence[str]) -> MoleculeReport:
    """Return the shares of valid, unique and novel strings; needs rdkit, the extra ``molecules``.

    Parameters
    ----------
    smiles : sequence of str
        Generated; of another notation, such as SELFIES, translate them first.
    train : sequence of str
        Canonical, as those of :func:`moses_smiles` are.

    Raises
    ------
    ImportError
        Without rdkit.
    ValueError
        No strings.
    """
    if not len(smiles):
        raise ValueError("smiles is empty; give one string or more")
    molecules = _molecules(_several(smiles, "smiles"))
    chem = require("rdkit.Chem", "molecules")
    known = [chem.MolToSmiles(molecule) for molecule in molecules if molecule is not None]
    different = set(known)
    new = different - set(train)
    return MoleculeReport(
        len(known) / len(smiles),
        len(different) / len(known) if known else np.nan,
        len(new) / len(different) if different else np.nan,
        len(smiles),
    )


@checked
def molecule_scores(smiles: Sequence[str], score: str = "logp") -> Float[np.ndarray, " n"]:
    """Return a property of molecules, NaN of strings that are none; needs rdkit, the extra ``molecules``.

    Parameters
    ----------
    score : {"logp", "qed", "sa"}
        Logarithm of the octanol-water partition coefficient (Crippen); likeness to a drug, from 0 to 1; how hard it is
        to make, from 1, easy, to 10.
    """
    check_choice(score, SCORES, "score")
    module, name = {
        "logp": ("rdkit.Chem.Crippen", "MolLogP"),
        "qed": ("rdkit.Chem.QED", "qed"),
        "sa": ("rdkit.Contrib.SA_Score.sascorer", "calculateScore"),
    }[score]
    value = getattr(require(module, "molecules"), name)
    molecules = _molecules(_several(smiles, "smiles"))
    with require("rdkit.rdBase", "molecules").BlockLogs():
        return np.array([np.nan if molecule is None else value(molecule) for molecule in molecules])


@checked
def molecule_log_f(
    vocabulary: Vocabulary, score: str = "logp", *, target: float | int = 4.0, tau: float | int = 1.0
) -> Callable[[Tensor], Float[np.ndarray, " n"]]:
    """Return the energy ``-(score - target)^2 / tau`` of tokens, -inf where they are no molecule.

    Hardly a random string of SMILES is a molecule: begin from conditionals that were fitted to some.

    Parameters
    ----------
    vocabulary : Vocabulary
        Of SMILES.
    score
        See :func:`molecule_scores`.
    """
    check_choice(score, SCORES, "score")
    check_in_range(target, "target")
    check_in_range(tau, "tau", low=1e-12)
    return partial(_log_f, vocabulary, score, float(target), float(tau))


def _log_f(
    vocabulary: Vocabulary, score: str, target: float, tau: float, x: Tensor
) -> Float[np.ndarray, " n"]:
    found = -((molecule_scores(vocabulary.decode(x), score) - target) ** 2) / tau
    return np.where(np.isnan(found), -np.inf, found)


def _molecules(smiles: Sequence[str]) -> list[Any]:
    """Molecules, None where a string is none."""
    chem = require("rdkit.Chem", "molecules")
    with require("rdkit.rdBase", "molecules").BlockLogs():  # what is no molecule is counted, not told
        # after white space rdkit reads a name
        return [chem.MolFromSmiles(text) if text and len(text.split()) == 1 else None for text in smiles]
