"""Two models beside each other, layer by layer: :func:`compare`.

The models run in step, batch by batch, and no batch is kept. What passes by is summed up exactly where it can be:
debiased CKA as its unbiased inner products (by batches, divided once), correlations of units as cross moments. A
uniform sample of the samples is kept for what needs them at once: neighbours, rotations, the intrinsic dimension, and
the same measures with one model's samples shuffled, which is what chance shows.

Shuffled samples are a weak null: two untrained networks pass it, since they see the same inputs. So model a is also
compared with b whose weights stand in random order, tensor by tensor: the same architecture, sizes of weights and data.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lodim.dimension import IntrinsicDimension
from lodim.linalg import CrossMoments
from lodim.nets import find_layers
from lodim.nets.activations import batches_of, first_tensor, model_inputs, watch_layers
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.representation.activations import (
    attended,
    check_data,
    choose_layers,
    is_map,
    masked_mean,
    placed_units,
)
from lodim.representation.comparison import MEASURES, Comparison, LayerPair
from lodim.representation.convergent_learning.matching import dead_sides, match_units
from lodim.representation.convergent_learning.similarity import best_transport, hsic_1, near_shares
from lodim.training.descent import Progress
from lodim.validation import check_choice, check_counts, check_in_range, checked, to_numpy

__all__ = ["compare"]

_CHUNK = 256  # samples whose inner products are computed at once
_LEAST = 32  # samples that are waited for, where batches are smaller
_ROUNDING = 16  # so many units of rounding of the largest value, and a layer is constant
_SORTED = 0.15  # so far apart CKA of the batches and of the samples kept are where batches differ in kind
_SAFE = 1e-8  # below it, or above its inverse, single precision has no room for products of products
_ROWS = 2000  # rows, at about which units are matched in shuffled samples
_A, _B, _S = "a", "b", "scrambled"
Views = dict[tuple[str, str], Tensor]


@checked
def compare(
    model_a: nn.Module,
    model_b: nn.Module,
    loader: Any,
    layers: Any = None,
    *,
    loader_b: Any = None,
    reduce: str = "auto",
    max_positions: int | np.integer = 16,
    max_points: int | np.integer = 500,
    n_shuffles: int | np.integer = 99,
    n_neighbors: int | np.integer = 10,
    scrambled: bool = True,
    batch_size: int | np.integer = 256,
    progress: Progress | None = None,
    random_state: RandomState = 0,
) -> Comparison:
    """Say how alike two models' layers are on the same inputs, and what chance and the architecture alone would show.

    Any two modules, of one architecture or of two; they run in evaluation mode, without gradients, each on its device,
    and are left as they were. One pass over the data; of a run that is interrupted (Ctrl-C) what is known by then comes
    back.

    Parameters
    ----------
    model_a, model_b : nn.Module
    loader : DataLoader, iterable, array or Tensor
        Batches for both models: tensors, tuples that start with the input, or mappings of the model's arguments. A
        loader may shuffle, since it is read once, and should where the data are sorted: CKA compares samples with those
        a few hundred around them, so that of data sorted by class it shows likeness within classes. A note says so.
    layers : str, sequence of str, or mapping, optional
        Names (or last parts of names, wildcards allowed) of layers in both models; or a mapping of a's to b's, such as
        ``{"encoder.layer.*": "blocks.*"}``, whose layers are paired in order. None: all that a reader would name.
        Layers are paired by name where both models have the same, else by relative depth.
    loader_b : optional
        Batches for model b, where it takes others (another tokeniser, another size of image): the same samples in the
        same order.
    reduce : {"auto", "places", "mean"}
        What a sample is in a layer that returns one row of units for each of several places: the rows at some places,
        or the mean over all places. "auto": places of maps, means of sequences, which leave out what the batch's
        ``attention_mask`` leaves out.
    max_positions : int
        At most so many places of a map, on a grid.
    max_points : int
        Samples kept. Memory is this many times the sizes of the layers at these places.
    n_shuffles : int
        p-values are at least 1 / (n_shuffles + 1); 0: no chance, no p-values.
    n_neighbors : int
        Nearest samples that are compared.
    scrambled : bool
        Whether to compare with a copy of b whose weights are in random order as well.
    batch_size : int
        Of an array or tensor.
    progress : callable, optional
        ``progress(share, text)`` now and then.
    random_state : int, Generator or None
        Draws the samples kept, the shuffles and the order of weights.

    Raises
    ------
    ValueError
        No such layer, one that does not run exactly once a batch, fewer than 4 samples, other samples from
        ``loader_b``, maps whose sizes change, values that are not finite.

    Examples
    --------
    >>> import torch
    >>> from lodim.nets import mlp
    >>> from lodim.representation import compare
    >>> data = torch.rand(300, 8, generator=torch.Generator().manual_seed(0))
    >>> model = mlp([8, 16, 4])
    >>> found = compare(model, model, data, n_shuffles=19, random_state=0)
    >>> round(found.pairs[0].scores["one_to_one"], 6)
    1.0
    """
    check_choice(reduce, ("auto", "places", "mean"), "reduce")
    check_counts(max_positions=max_positions, n_neighbors=n_neighbors)
    check_in_range(max_points, "max_points", low=12, integer=True)
    check_in_range(n_shuffles, "n_shuffles", low=0, integer=True)
    check_in_range(batch_size, "batch_size", low=1, integer=True)
    for data, name in ((loader, "loader"), (loader_b, "loader_b")):
        check_data(data, name)
    seed = root_seed(random_state)
    models = {_A: _plain(model_a), _B: _plain(model_b)}
    for side, model in models.items():
        if any(is_lazy(parameter) for parameter in model.parameters()):
            raise ValueError(
                f"model_{side} has parameters whose shapes its first batch decides: run it once before"
            )
    if {id(part) for part in models[_A].modules()} & {id(part) for part in models[_B].modules()}:
        models[_B] = _copied(models[_B])  # hooks of a shared part could not tell whose output it is
    chosen, wanted = _choose(models, layers)
    if scrambled:
        models[_S], chosen[_S] = _scrambled(models[_B], derive_seed(seed, "scrambled")), {}
        chosen[_S] = {name: models[_S].get_submodule(name) for name in chosen[_B]}
    gathering = _Gathering(
        chosen, wanted, reduce, int(max_positions), int(max_points), derive_seed(seed, "kept"), layers is None
    )
    complete, left_out = True, dict[str, int]()
    try:
        left_out = watch_layers(
            _SideBySide(models),
            _together(loader, loader_b, int(batch_size), progress),
            {f"{side}.{name}": layer for side, found in chosen.items() for name, layer in found.items()},
            gathering.visit,
            select=gathering.select,
            only_single=layers is None,
        )
    except KeyboardInterrupt:
        complete = False
    gathering.flush()
    if not complete and gathering.n_samples < 4:
        raise KeyboardInterrupt  # nothing is known
    notes = []
    if left_out:
        names = ", ".join(repr(name) for name in left_out if not name.startswith(_S))
        notes.append(f"Left out are layers that do not run exactly once a batch: {names}.")
    return gathering.answer(
        int(n_shuffles), int(n_neighbors), notes, complete, progress, derive_seed(seed, "shuffles")
    )


# ---- running the models in step


class _SideBySide(nn.Module):
    def __init__(self, models: dict[str, nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleDict(models)

    def forward(self, **batches: Any) -> None:
        for side, model in self.models.items():
            positional, named = model_inputs(model, batches[_A if side == _A else _B])
            model(*positional, **named)


def _together(first: Any, second: Any, size: int, progress: Progress | None) -> Iterator[dict[str, Any]]:
    """Batches of both; the same batch for both models where there is one loader."""
    total = (
        math.ceil(len(first) / size)
        if isinstance(first, Tensor | np.ndarray)
        else getattr(first, "__len__", lambda: 0)()
    )
    ahead, other = batches_of(first, size), None if second is None else batches_of(second, size)
    end = object()
    for number, batch in enumerate(ahead):
        beside = batch if other is None else next(other, end)
        if beside is end:
            raise ValueError(
                f"loader_b ends after {number} batches, and loader goes on: they must hold the same samples"
            )
        yield {_A: batch, _B: beside}
        if progress is not None:
            progress((number + 1) / total if total else 0.0, f"{number + 1} batches have passed")
    if other is not None and next(other, end) is not end:
        raise ValueError("loader_b goes on after the end of loader: they must hold the same samples")


def _plain(model: nn.Module) -> nn.Module:
    """A model without the wrappers of torch.compile and DataParallel, through which hooks do not see."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.DataParallel):
            inner = model.module
        if inner is None:
            return model
        model = inner


def _copied(model: nn.Module) -> nn.Module:
    """A copy; what was computed with gradients and is set anew in each run (the weights of norms) is detached."""
    computed = (value for part in model.modules() for value in vars(part).values())
    return copy.deepcopy(
        model, {id(t): t.detach() for t in computed if isinstance(t, Tensor) and not t.is_leaf}
    )


def _scrambled(model: nn.Module, seed: int) -> nn.Module:
    copied, rng = _copied(model), as_generator(seed)
    with torch.no_grad():
        for parameter in copied.parameters():
            order = torch.from_numpy(rng.permutation(parameter.numel())).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view(parameter.shape))
    return copied


def _choose(
    models: Mapping[str, nn.Module], layers: Any
) -> tuple[dict[str, dict[str, nn.Module]], list[tuple[str, str]] | None]:
    """Layers of each model by name, and their pairs where these are told."""
    if isinstance(layers, Mapping):
        found: dict[str, dict[str, nn.Module]] = {_A: {}, _B: {}}
        pairs: list[tuple[str, str]] = []
        for entries in layers.items():
            if not all(isinstance(entry, str) for entry in entries):
                raise TypeError(f"layers must map names to names, got {entries[0]!r}: {entries[1]!r}")
            sides = [
                find_layers(models[side], [entry], kinds=nn.Module) for side, entry in zip((_A, _B), entries)
            ]
            if len(sides[0]) != len(sides[1]):
                raise ValueError(
                    f"{entries[0]!r} stands for {len(sides[0])} layers of model_a, {entries[1]!r} for {len(sides[1])} "
                    "of model_b: there must be as many"
                )
            pairs += zip(*sides)
            for side, some in zip((_A, _B), sides):
                found[side].update(some)
        if not pairs:
            raise ValueError("layers is empty: give names, or None for all that a reader would name")
        return found, pairs
    return {side: choose_layers(model, layers) for side, model in models.items()}, None


def _pairs(a: list[str], b: list[str]) -> list[tuple[str, str]]:
    """By name where both have the same names, else by relative depth: each layer of the longer list once."""
    if set(a) == set(b):
        return [(name, name) for name in a]
    most = max(len(a), len(b))
    at = np.linspace(0, 1, most)
    return [(a[round(t * (len(a) - 1))], b[round(t * (len(b) - 1))]) for t in at]


# ---- what a layer says of a batch


def _view(output: Tensor, layer: nn.Module, reduce: str, mask: Tensor | None, most: int) -> Tensor:
    """A batch of a layer's outputs as samples, places, units."""
    if output.is_complex():
        raise ValueError(
            "complex activations have no order to compare; give a layer that returns real numbers"
        )
    if not output.is_floating_point() or output.dtype in (torch.float16, torch.bfloat16):
        output = output.float()
    placed = placed_units(output, layer)
    if placed.ndim == 2:
        return placed[:, None]
    if reduce == "mean" or (reduce == "auto" and not is_map(output, layer)):
        return masked_mean(placed.flatten(1, -2), mask)[:, None]
    each = max(int(most ** (1 / (placed.ndim - 2)) + 1e-9), 1)
    for axis, size in enumerate(placed.shape[1:-1], start=1):
        if size > each:
            middle = ((torch.arange(each) + 0.5) * size / each).long()
            placed = placed.index_select(axis, middle.to(placed.device))
    return placed.flatten(1, -2)


def _alike_rows(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Units of two layers at the same places, as samples, places, units; means where the places differ."""
    if a.shape[1] != b.shape[1]:
        a, b = a.mean(1, keepdim=True), b.mean(1, keepdim=True)
    return a, b


def _inner_products(views: list[Tensor]) -> Tensor:
    """Unbiased HSIC of linear kernels, shape (L, L): Song and others (2012), equation 5. It needs 4 samples."""
    n, grams = len(views[0]), []
    for view in views:
        rows = view.flatten(1)
        rows = rows - rows.mean(0)
        grams.append((rows @ rows.T).double().cpu().fill_diagonal_(0))
    K = torch.stack(grams)
    sums = K.sum(2)
    totals, flat = sums.sum(1), K.flatten(1)
    found = flat @ flat.T + totals[:, None] * totals / ((n - 1) * (n - 2)) - 2 * (sums @ sums.T) / (n - 2)
    return found / (n * (n - 3))


def _rows(batch: Any) -> int:
    """Samples of a batch as its model's inputs have them; 0 where that cannot be told."""
    parts: Any = batch if isinstance(batch, tuple | list) else [batch]
    parts = batch.values() if isinstance(batch, Mapping) else parts
    return next((len(part) for part in parts if isinstance(part, Tensor | np.ndarray) and part.ndim), 0)


def _size(views: Views) -> int:
    return len(next(iter(views.values())))


class _Gathering:
    """What is summed up and kept while the batches pass by."""

    def __init__(
        self, chosen: dict[str, dict[str, nn.Module]], pairs: list[tuple[str, str]] | None, reduce: str, most: int,
        points: int, seed: int, any_layer: bool = False,
    ) -> None:  # fmt: skip
        self.any_layer = any_layer
        self.chosen, self.pairs, self.reduce, self.most, self.points = chosen, pairs, reduce, most, points
        self.rng = as_generator(seed)
        self.keys: list[tuple[str, str]] = []
        self.overflown: set[str] = set()
        self.waiting: list[Views] = []
        self.steps: list[Callable[[], None]] = []
        self.kept: Views = {}
        self.order = np.empty(0)
        self.n_samples = 0
        self.odd: list[str] = []
        self.first: Views = {}
        self.sizes: dict[tuple[str, str], tuple[float, float]] = {}

    def select(self, output: Any) -> Tensor:
        """The tensor of a layer's output; of layers that were not asked for by name an empty one where it has none."""
        try:
            return first_tensor(output)
        except TypeError:
            if self.any_layer:
                return torch.empty(0)
            raise TypeError(
                f"a layer returns no tensor of numbers, but a {type(output).__name__}: it cannot be compared"
            ) from None

    def _start(self, names: list[str]) -> None:
        self.keys = [tuple(name.split(".", 1)) for name in names]  # type: ignore[misc]
        ran = {side: [name for s, name in self.keys if s == side] for side in (_A, _B)}
        if not ran[_A] or not ran[_B]:
            raise ValueError("no layer of one of the models runs exactly once a batch: name layers that do")
        self.pairs = _pairs(ran[_A], ran[_B]) if self.pairs is None else self.pairs
        self.products = torch.zeros(len(self.keys), len(self.keys), dtype=torch.float64)
        self.moments = {
            (side, i): CrossMoments()
            for side in (_B, _S)
            if side in self.chosen
            for i in range(len(self.pairs))
        }

    def visit(self, batch: Any, outputs: dict[str, Tensor]) -> None:
        if not any(output.ndim and len(output) for output in outputs.values()):
            return  # no sample
        if not self.keys:
            given = {side: _rows(batch[_A if side == _A else _B]) for side in self.chosen}
            if self.any_layer:  # tables of positions and the like, which are the same for all samples
                self.odd = [
                    name for name, output in outputs.items()
                    if output.ndim == 0 or len(output) != (given[name.split(".", 1)[0]] or len(output))
                ]  # fmt: skip
            self._start([name for name in outputs if name not in self.odd])
        views: Views = {}
        for side, name in self.keys:
            output = outputs[f"{side}.{name}"]
            mask = attended(batch[_A if side == _A else _B], output)
            view = _view(output, self.chosen[side][name], self.reduce, mask, self.most)
            if not torch.isfinite(view).all():
                if side != _S:
                    raise ValueError(f"layer {name!r} of model_{side} returns values that are not finite")
                self.overflown.add(name)
                view = torch.zeros_like(view)
            self._measure((side, name), view, output.dtype)
            largest = float(view.abs().max()) if view.numel() else 1.0
            views[side, name] = view if _SAFE < largest < 1 / _SAFE else view.double()
        sizes = {len(view) for view in views.values()}
        if len(sizes) > 1:
            raise ValueError(
                f"the layers return {sorted(sizes)} rows for one batch: samples must be along axis 0 of every output, "
                "and both loaders must hold the same samples"
            )
        self.waiting.append(views)
        if sum(map(_size, self.waiting)) >= _LEAST:
            self.flush()

    def _measure(self, key: tuple[str, str], view: Tensor, dtype: torch.dtype) -> None:
        """How large a layer's values are, and how far from those of the first sample: is it more than rounding?"""
        first = self.first.setdefault(key, view[:1].clone())
        if len(view) and view.numel() and first.shape[1:] == view.shape[1:]:
            own = torch.finfo(dtype).eps if dtype.is_floating_point else 0.0
            least = max(own, _ROUNDING * torch.finfo(view.dtype).eps) * float(view.abs().max())
            far, size = self.sizes.get(key, (0.0, 0.0))
            self.sizes[key] = max(far, float((view - first).abs().max())), max(size, least)

    def _constant(self) -> set[tuple[str, str]]:
        """Take what layers vary by rounding alone out of all sums."""
        found = {key for key, (far, least) in self.sizes.items() if far <= least}
        for i, key in enumerate(self.keys):
            if key in found:
                self.kept[key] = torch.zeros_like(self.kept[key])
                self.products[i] = self.products[:, i] = 0
        for (side, i), moments in self.moments.items():
            a, b = self.pairs[i]  # type: ignore[index]
            gone = (_A, a) in found, (side, b) in found
            moments.squares = tuple(part * (not none) for part, none in zip(moments.squares, gone))
        return found

    def flush(self) -> None:
        """Take in what waits, small batches together; go on where an interruption left off."""
        if self.waiting:
            try:
                whole = {key: torch.cat([views[key] for views in self.waiting]) for key in self.keys}
            except RuntimeError as error:
                raise ValueError(
                    "the layers' outputs change their size from batch to batch; reduce='mean' allows that: "
                    f"{error}"
                ) from None
            steps: list[Callable[[], None]] = [partial(self._keep, whole), partial(self._add_products, whole)]
            steps += [partial(self._add_moments, whole, *key) for key in self.moments]
            self.waiting, self.steps = [], steps
        while self.steps:
            self.steps[-1]()
            self.steps.pop()

    def _add_products(self, whole: Views) -> None:
        """Inner products of chunks."""
        found = torch.zeros_like(self.products)
        parts = [view.tensor_split(math.ceil(len(view) / _CHUNK)) for view in whole.values()]
        for chunk in zip(*parts):
            if len(chunk[0]) >= 4:
                found += len(chunk[0]) * _inner_products(list(chunk))
        self.products = self.products + found

    def _add_moments(self, whole: Views, side: str, i: int) -> None:
        a, b = self.pairs[i]  # type: ignore[index]
        rows = _alike_rows(whole[_A, a], whole[side, b].to(whole[_A, a].device))
        self.moments[side, i].update(*(part.flatten(0, 1) for part in rows))

    def _keep(self, views: Views) -> None:
        """Samples with the smallest of random keys, a uniform sample of all so far."""
        n = _size(views)
        keys = np.concatenate([self.order, self.rng.random(n)])
        chosen = np.sort(np.argsort(keys, kind="stable")[: self.points])
        old = torch.from_numpy(chosen[chosen < len(self.order)])
        new = torch.from_numpy(chosen[len(old) :] - len(self.order))
        kept = dict(self.kept)
        for key, view in views.items() if len(new) else ():
            fresh = view[new.to(view.device)].cpu()
            kept[key] = torch.cat([kept[key][old], fresh]) if len(old) else fresh
        self.kept, self.order, self.n_samples = kept, keys[chosen], self.n_samples + n

    # ---- answers

    def answer(
        self, n_shuffles: int, k: int, notes: list[str], complete: bool, progress: Progress | None, seed: int
    ) -> Comparison:
        n = len(self.order)
        if n < 4:
            raise ValueError(f"a comparison needs at least 4 samples, got {n}")
        assert self.pairs is not None
        if k >= n:
            notes.append(f"Neighbours are {n - 1}, since {n} samples were kept: all share them.")
        k, pairs, rng = min(k, n - 1), self.pairs, as_generator(seed)
        constant = self._constant()
        if self.odd:
            odd = ", ".join(repr(name) for name in self.odd if not name.startswith(_S))
            notes.append(f"Left out are layers that do not return one row of numbers a sample: {odd}.")
        diagonal = self.products.diagonal()
        size = torch.where(diagonal > 0, diagonal, math.nan).sqrt()
        alike = (self.products / size[:, None] / size).numpy()
        place = {key: i for i, key in enumerate(self.keys)}
        own = {key: _Layer(view, k) for key, view in self.kept.items()}
        beside = [_Beside(own[_A, a], own[_B, b], k) for a, b in pairs]
        observed, draws = [one.scores() for one in beside], []
        try:
            for number in range(n_shuffles):
                order = rng.permutation(n)
                draws.append([one.scores(order) for one in beside])
                if progress is not None:
                    progress((number + 1) / n_shuffles, f"shuffle {number + 1} of {n_shuffles}")
        except KeyboardInterrupt:
            complete = False
        shuffled, p_values, adjusted = _chance(observed, draws)
        dimensions = {key: _dimension(self.kept[key], seed) for key in own if key[0] != _S}
        found = []
        for i, (a, b) in enumerate(pairs):
            scores = self._scores(_B, i, alike[place[_A, a], place[_B, b]].item(), observed[i])
            scrambled: dict[str, float] = {}
            if (_S, b) in place and b not in self.overflown:
                others = _Beside(own[_A, a], own[_S, b], k).scores()
                scrambled = self._scores(_S, i, alike[place[_A, a], place[_S, b]].item(), others)
            rows, other = _alike_rows(self.kept[_A, a], self.kept[_B, b])
            of_a, of_b = dimensions[_A, a], dimensions[_B, b]
            remarks = self._remarks(a, b, of_a[2], of_b[2], scores["cka"], observed[i]["cka"], constant)
            dead = [int(part.sum()) for part in dead_sides(self.moments[_B, i])]
            found.append(
                LayerPair(
                    a, b, rows.shape[2], other.shape[2], dead[0], dead[1], rows.shape[1], scores, shuffled[i],
                    p_values[i], adjusted[i], scrambled, of_a[0], of_b[0], of_a[1], of_b[1], "; ".join(remarks),
                )
            )  # fmt: skip
        layers = {side: [i for i, (s, _) in enumerate(self.keys) if s == side] for side in (_A, _B)}
        names = {side: tuple(self.keys[i][1] for i in rows) for side, rows in layers.items()}
        return Comparison(
            names[_A], names[_B], alike[np.ix_(layers[_A], layers[_B])], tuple(found), self.n_samples, n, len(draws), k,
            tuple(notes), complete,
        )  # fmt: skip

    def _remarks(
        self,
        a: str,
        b: str,
        of_a: str,
        of_b: str,
        cka: float,
        cka_kept: float,
        constant: set[tuple[str, str]],
    ) -> list[str]:
        """What a reader of a pair's figures should know."""
        remarks = [f"{side}: {text}" for side, text in ((_A, of_a), (_B, of_b)) if text]
        if len(self.order) >= 100 and self.n_samples > _CHUNK and abs(cka - cka_kept) > _SORTED:
            remarks.append(
                f"CKA is {cka_kept:.2f} on the samples kept, which are of all batches; is each batch of some kinds of "
                "samples only? then shuffle them"
            )
        for key in ((_A, a), (_B, b)):
            if key in constant:
                remarks.append(f"{key[0]}: varies by no more than rounding")
        if b in self.overflown:
            remarks.append("with scrambled weights the model's values are not finite")
        return remarks

    def _scores(self, side: str, pair: int, cka: float, kept: Mapping[str, float]) -> dict[str, float]:
        """CKA and matchings of all samples, beside the measures that were found on those kept."""
        moments = self.moments[side, pair]
        found = {**kept, "cka": cka, **_matchings(to_numpy(moments.correlation()), *dead_sides(moments))}
        return {measure: found[measure] for measure in MEASURES}


def _matchings(table: np.ndarray, dead_a: np.ndarray, dead_b: np.ndarray) -> dict[str, float]:
    table = np.clip(table, -1, 1)  # sums in single precision are off by rounding
    if dead_a.all() or dead_b.all():
        return dict.fromkeys(("one_to_one", "semi", "soft"), math.nan)
    found = {
        method: match_units(table, method=method, dead_a=dead_a, dead_b=dead_b).mean
        for method in ("one_to_one", "semi")
    }
    live = table[np.ix_(~dead_a, ~dead_b)]
    square = live.shape[0] == live.shape[1]  # then a best plan shares out no unit
    return {**found, "soft": found["one_to_one"] if square else best_transport(live)}


class _Layer:
    """What the samples kept of one layer say by themselves."""

    def __init__(self, view: Tensor, k: int) -> None:
        self.view = view
        rows = view.flatten(1).double()
        rows = rows - rows.mean(0)
        gram = (rows @ rows.T).numpy()
        self.kernel = gram - np.diag(np.diag(gram))
        self.sums = self.kernel.sum(1)
        self.itself = hsic_1(float(np.vdot(self.kernel, self.kernel)), self.sums, self.sums, len(gram))
        self.near = near_shares(rows.numpy(), 0, len(gram), k)
        self.factor = _factor(gram)
        self.size = np.linalg.norm(self.factor)


class _Beside:
    """All measures of two layers on the samples kept, in true and in shuffled order of b's."""

    def __init__(self, a: _Layer, b: _Layer, k: int) -> None:
        self.a, self.b, self.k, self.n = a, b, k, len(a.view)
        rows = _alike_rows(a.view, b.view)
        every = math.ceil(self.n * rows[0].shape[1] / _ROWS)
        rows = rows[0][:, every // 2 :: every], rows[1][:, every // 2 :: every]
        moments = CrossMoments().update(*(part.flatten(0, 1) for part in rows))
        self.dead, self.units = dead_sides(moments), []
        for part, mean, square in zip(rows, moments.means, moments.squares):
            scaled = (part - mean) / torch.where(square > 0, square, math.inf).sqrt()
            self.units.append(scaled.to(part.dtype).numpy())

    def scores(self, order: np.ndarray | None = None) -> dict[str, float]:
        order = np.arange(self.n) if order is None else order
        a, b, both = self.a, self.b, np.ix_(order, order)
        inner = hsic_1(float(np.vdot(a.kernel, b.kernel[both])), a.sums, b.sums[order], self.n)
        known, size = min(a.itself, b.itself) > 0, a.size * b.size
        turned = np.linalg.svd(a.factor.T @ b.factor[order], compute_uv=False).sum() if size > 0 else math.nan
        units, others = self.units
        table = np.tensordot(units, others[order], axes=((0, 1), (0, 1)))
        return {
            "cka": inner / math.sqrt(a.itself * b.itself) if known else math.nan,
            "procrustes": min(float(turned / size), 1.0) if size > 0 else math.nan,
            "neighbours": float(np.vdot(a.near, b.near[both])) / (self.n * self.k),
            **_matchings(table, *self.dead),
        }


def _factor(gram: np.ndarray) -> np.ndarray:
    """Rows with these inner products, in as few columns as they need."""
    values, vectors = np.linalg.eigh(gram)
    large = values > 1e-12 * max(values[-1], 0.0)
    return vectors[:, large] * np.sqrt(values[large])


def _dimension(view: Tensor, seed: int) -> tuple[float, tuple[float, float] | None, str]:
    rows = view.flatten(1).numpy()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            model = IntrinsicDimension("twonn", ci=0.95, random_state=seed).fit(rows)
        except ValueError as error:
            return math.nan, None, f"no dimension: {error}"
    return float(model.dimension_), model.ci_, "; ".join(str(one.message) for one in told)


def _chance(
    observed: list[dict[str, float]], draws: list[list[dict[str, float]]]
) -> tuple[list[dict[str, float]], list[dict[str, float]], list[dict[str, float]]]:
    """Means of shuffled scores, p-values, and p-values adjusted by the maximum over all measures of all pairs."""
    if not draws:
        nothing: list[dict[str, float]] = [{} for _ in observed]
        return nothing, nothing, nothing
    values = np.array([[[pair[m] for m in MEASURES] for pair in draw] for draw in [observed, *draws]])
    close = values >= values[0] - 1e-12 * np.abs(values[0])
    p_values = np.where(np.isfinite(values[0]), close.mean(0), math.nan)
    spread = values.std(0)
    steady = spread <= 1e-12 * np.abs(values).max(0)  # the same in all orders, but for rounding
    z = (values - values.mean(0)) / np.where(steady, math.inf, spread)
    largest = np.where(np.isfinite(z), z, -math.inf).max((1, 2))
    adjusted = (largest[:, None, None] >= z[0] - 1e-12 * np.abs(z[0])).mean(0)
    adjusted = np.where(np.isfinite(values[0]), adjusted, math.nan)
    return tuple(
        [dict(zip(MEASURES, map(float, row))) for row in table]
        for table in (values[1:].mean(0), p_values, adjusted)
    )  # type: ignore[return-value]
