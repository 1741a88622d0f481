"""The main job: ``lodim.profile(X, y)`` measures data and model within a time budget and says what follows.

Reading the data counts; loading libraries does not. What reading leaves is shared out beforehand: three tenths for the
data where a model is measured too, a twentieth for the answers beside the dimension (density, bits of assumptions), the
rest for the search of the model's dimension, an eighth of it kept for the layers and the compression. How much is
measured, how many runs are made and how long they are is planned from these shares, the data, the size of their file
and the model alone, with room to spare: so the same seed gives the same answer on a machine that is busy today. Only
reading that takes far longer than its file's size explains is planned for as it was, and a note says so. The clock cuts
what would run beyond one and a half times the budget, and a note says so too. The data come first and whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lodim.datasets import Dataset
from lodim.extras import versions
from lodim.parallel import count_processes, run_jobs
from lodim.profiling import wording
from lodim.profiling.advice import advise
from lodim.profiling.inputs import as_dataset
from lodim.profiling.parts import AssumptionBits, DataPart, LandscapePart
from lodim.profiling.result import Profile
from lodim.randomness import RandomState, root_seed
from lodim.validation import check_in_range, checked, require

Progress = Callable[[float, str], Any]
_DATA_SHARE, _ALONE_SHARE = 0.3, 0.9  # with a model, and without
_DENSITY_SHARE, _DIFFICULTY_SHARE = 0.02, 0.03
_GROUPS_SHARE = 0.02  # of what the data's share has beyond its plan
_LATEST = 1.5  # budgets until the clock cuts
_LEAST_FOR_MODEL = 0.5  # of what reading left, for the model, however slow the data
_SLOW, _GRACE = (
    0.1,
    2.0,
)  # budgets and seconds that reading may take beyond its plan, before it is planned for as it was
_LEAST_LEFT = 0.1  # budgets left however slow the reading


class ProfileInterrupted(KeyboardInterrupt):
    """Ctrl-C during :func:`profile`; ``partial`` is the profile of what was known by then."""

    def __init__(self, partial: Profile):
        super().__init__("interrupted")
        self.partial = partial


@dataclass
class _Known:
    """What a running profile has found so far."""

    dataset: Dataset
    seed: int
    budget: int | float
    left: float = 0.0  # of the budget, for what is planned: less than it by the time for reading
    start: float = field(default_factory=time.monotonic)
    data: DataPart | None = None
    landscape: LandscapePart | None = None
    difficulty: AssumptionBits | None = None
    task: Any = None
    kind_given: bool = False
    notes: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)

    def profile(self, *, complete: bool) -> Profile:
        dataset = self.dataset
        found = Profile(
            source=dataset.name,
            n_samples=len(dataset.X),
            n_features=dataset.X.shape[1],
            data=self.data,
            landscape=self.landscape,
            advice=(),
            seconds=round(time.monotonic() - self.start, 3),
            seed=self.seed,
            versions=versions(),
            kind=dataset.kind,
            target_name=dataset.target_name,
            n_classes=len(dataset.classes or ()) or None,
            image_shape=dataset.image_shape,
            notes=tuple(dict.fromkeys(map(_sentence, (*dataset.notes, *self.notes)))),
            budget=float(self.budget),
            complete=complete,
            timings=dict(self.timings),
            difficulty=self.difficulty,
            kind_given=self.kind_given,
            n_table_columns=None if dataset.origins is None else dataset.n_table_columns,
        )
        return replace(found, advice=advise(found))


def _sentence(note: str) -> str:
    return wording.sentence(note).rstrip(".") + "."


@checked
def profile(
    X: Any,
    y: Any = None,
    model: Any = None,
    *,
    budget: int | float = 60.0,
    random_state: RandomState = 0,
    n_jobs: int = 1,
    ray: str | None = None,
    source: str = "array",
    feature_names: Sequence[str] | None = None,
    target_name: str | None = None,
    classes: Sequence[str] | None = None,
    kind: str = "auto",
    image_shape: Sequence[int] | None = None,
    notes: Sequence[str] = (),
    topology: bool = False,
    reading: int | float = 0.0,
    progress: Progress | None = None,
) -> Profile:
    """Find how many dimensions a problem really needs: its data's and, with labels, its model's.

    Parameters
    ----------
    X : array-like, shape (n_samples, n_features), pandas.DataFrame, str, Path, or lodim.datasets.Dataset
        At least 10 rows of finite numbers. Everything is prepared as the command ``lodim profile`` prepares it: an
        array's distances are measured in its own units (bring columns to one scale first), a data frame is a table
        (columns scaled, categories encoded), arrays of images (n_samples, [channels,] height, width) are flattened,
        those of bytes scaled to [0, 1]. A string or Path is what the command takes: ``lodim.profile("digits")``. A
        Dataset brings its own target, names and notes, and all its rows are used; of anything else with more than
        100,000 rows (or 200,000,000 values) a random sample.
    y : array-like, shape (n_samples,), optional
        Labels or real targets. Without them only the data is measured.
    model : {"mlp", "linear", "lenet", "none"}, "package.module:factory", callable, optional
        The model whose landscape is measured; default ``"mlp"``. A callable builds a freshly initialised
        ``torch.nn.Module``; if it asks for two arguments they are the numbers of columns and outputs.
    budget : float
        Seconds to spend, about, reading included and loading libraries not. It decides how much is sampled and trained;
        the notes say what was left out.
    random_state : int, Generator or None
        The same seed and budget give the same answer, unless a note says that the clock cut it short.
    n_jobs : int
        Local processes for the training runs.
    ray : str, optional
        Address of a Ray cluster for the training runs.
    source : str
        What to call the data in the report.
    feature_names, classes : sequence of str, optional
        Names of the columns, and of the classes 0, 1, ... of y.
    target_name : str, optional
        What to call y; the column to predict where X names a file.
    kind : {"auto", "classification", "regression"}
        ``"auto"``: text, booleans and few different whole numbers that are no counts, years or other quantities are
        classes (:func:`lodim.validation.infer_kind`); a note says how whole numbers were read.
    image_shape : sequence of int, optional
        (channels, height, width) of the samples.
    notes : sequence of str
        What was done to the data before; kept in the report.
    topology : bool
        Whether to count components and loops too (needs the extra ``topology``).
    reading : float
        Seconds of the budget that X has taken already, where it was read for this profile.
    progress : callable, optional
        Called as ``progress(done, text)`` with the share of the work that is done.

    Raises
    ------
    ValueError, TypeError
        Bad input: too few rows, NaN, all rows equal, labels of another length, one class, an unknown model.
    ImportError
        ``topology=True`` without what it needs, naming the extra.
    ProfileInterrupted
        On Ctrl-C, with what was known by then in ``partial``.

    Examples
    --------
    >>> import numpy as np
    >>> import lodim
    >>> rng = np.random.default_rng(0)
    >>> plane = rng.normal(size=(400, 2)) @ rng.normal(size=(2, 30))
    >>> round(lodim.profile(plane).data.dimension)
    2
    """
    check_in_range(budget, "budget", low=1.0, high=1e7)
    check_in_range(reading, "reading", low=0.0)
    count_processes(n_jobs)
    seed = root_seed(random_state)
    if topology:  # said before the long work begins
        require("gudhi", "topology")
    began = time.monotonic()
    dataset = as_dataset(
        X,
        y,
        source=str(X) if source == "array" and isinstance(X, str | Path) else source,
        feature_names=feature_names,
        target_name=target_name,
        classes=classes,
        kind=kind,
        image_shape=image_shape,
        notes=notes,
        seed=seed,
    )
    spent = reading + time.monotonic() - began
    known = _Known(dataset, seed, budget, kind_given=kind != "auto")
    tell = progress or (lambda done, text: None)
    unwanted = isinstance(model, str) and model == "none"
    wanted = dataset.y is not None and not unwanted
    if dataset.y is None and model is not None and not unwanted:
        raise ValueError(
            f"model {model!r} needs something to learn: give labels or targets as y, or model='none'"
        )
    choice = None
    if wanted:  # a wrong model is said before the long work begins
        from lodim.profiling.models import choose_model

        n_outputs = len(dataset.classes or ()) or 1
        choice = choose_model(model, dataset.X.shape[1], n_outputs, dataset.image_shape)
    _load_parts()
    if choice is not None:
        _load_for_model(n_jobs, ray)
    known.start = time.monotonic() - spent  # loading libraries is no part of the budget
    _plan_for_reading(known, spent)
    try:
        share = _DATA_SHARE if choice is not None else _ALONE_SHARE
        _measure_data(known, share, lambda done, text: tell(0.9 * share * done, text))
        _measure_extras(known, topology, lambda text: tell(0.9 * share, text))
        if choice is not None:
            _measure_landscape(
                known, choice, n_jobs, ray, lambda done, text: tell(share + (1 - share) * done, text)
            )
    except KeyboardInterrupt as interrupt:
        raise ProfileInterrupted(known.profile(complete=False)) from interrupt
    tell(1.0, "done")
    return known.profile(complete=True)


def _load_parts() -> None:
    """Load what the measurements load, before the clock starts."""
    from lodim.profiling import beside_dimension, data_part  # noqa: F401


def _load_for_model(n_jobs: int, ray: str | None) -> None:
    """The same for the training runs, where they will be; a wrong ``n_jobs`` or ``ray`` is said now."""
    _load_training()
    if n_jobs != 1 or ray is not None:
        run_jobs(_load_training, [None] * count_processes(n_jobs), n_jobs=n_jobs, ray=ray)


def _load_training(_: None = None) -> None:
    import sklearn.linear_model  # noqa: F401
    import torch

    from lodim.profiling import landscape_part  # noqa: F401

    torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # the first optimiser loads torch's compiler


def _plan_for_reading(known: _Known, spent: float) -> None:
    """Set what is left of the budget beside reading, which took ``spent``."""
    planned, budget = known.dataset.seconds_to_read, known.budget
    slow = spent > planned + max(_SLOW * budget, _GRACE)
    counted = spent if slow else planned
    known.left = max(budget - counted, _LEAST_LEFT * budget)
    known.timings["reading"] = round(spent, 3)
    if slow:
        known.notes.append(
            f"ATTENTION, reading took {spent:.1f} s, longer than its file explains, and the rest was planned for "
            f"the {known.left:.1f} s that this left of {budget:g}; on another machine or day the same seed may answer "
            "otherwise"
        )
    if counted > (1 - _LEAST_LEFT) * budget:
        known.notes.append(
            f"Reading alone takes about {counted:.0f} s, nearly all of the time allowed ({budget:g} s): only the "
            "least was measured. Allow more time"
        )


def _measure_data(known: _Known, share: float, tell: Progress) -> None:
    from lodim.profiling.data_part import measure_data

    tell(0.0, "measuring the data")
    dataset, began = known.dataset, time.monotonic()
    seconds = share * known.left
    known.data, notes = measure_data(
        dataset.X,
        dataset.labels,
        dataset.feature_names or (),
        seed=known.seed,
        deadline=known.start + _LATEST * known.budget,
        seconds=0.6 * seconds,
        origins=dataset.origins,
        kinds=dataset.column_kinds,
        images=dataset.image_shape is not None,
    )
    known.notes += notes
    known.timings["data"] = round(time.monotonic() - began, 3)
    tell(1.0, "the data is measured")


def _measure_extras(known: _Known, topology: bool, tell: Callable[[str], Any]) -> None:
    from lodim.profiling import beside_dimension

    dataset, began, seed = known.dataset, time.monotonic(), known.seed
    assert known.data is not None

    def clock(part: float) -> beside_dimension.Clock:
        return beside_dimension.Clock(part * known.left, known.start + _LATEST * known.budget)

    tell("judging densities")
    density, notes = beside_dimension.measure_density(dataset, seed, clock(_DENSITY_SHARE), known.data)
    known.data = replace(known.data, density=density)
    known.notes += notes
    tell("looking for groups")
    found, notes = beside_dimension.measure_groups(dataset, seed, clock(_GROUPS_SHARE), known.data)
    known.data = replace(known.data, groups=found)
    known.notes += notes
    if dataset.kind == "classification":
        tell("counting bits of assumptions")
        clocked = clock(_DIFFICULTY_SHARE)
        known.difficulty, known.task, notes = beside_dimension.measure_difficulty(
            dataset, known.data, seed, clocked
        )
        known.notes += notes
    if topology:
        tell("counting components and loops")
        counted, notes = beside_dimension.measure_topology(dataset, seed)
        known.data = replace(known.data, topology=counted)
        known.notes += notes
    known.timings["extras"] = round(time.monotonic() - began, 3)


def _measure_landscape(known: _Known, choice: Any, n_jobs: int, ray: str | None, tell: Progress) -> None:
    from lodim.profiling.beside_dimension import with_model
    from lodim.profiling.landscape_part import measure_landscape

    began = time.monotonic()
    share = 1 - _DATA_SHARE - _DENSITY_SHARE - _DIFFICULTY_SHARE
    try:
        for part, notes in measure_landscape(
            known.dataset,
            choice,
            seed=known.seed,
            seconds=share * known.left,
            deadline=max(known.start + _LATEST * known.budget, began + _LEAST_FOR_MODEL * known.left),
            n_jobs=n_jobs,
            ray=ray,
            progress=tell,
            layers=known.data is None or known.data.steps is None,
        ):
            known.landscape = part
            known.notes += notes
    finally:
        known.timings["landscape"] = round(time.monotonic() - began, 3)
        if known.difficulty is not None and known.landscape is not None:
            known.difficulty = with_model(known.difficulty, known.task, known.landscape)
