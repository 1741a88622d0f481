"""Both stages together: :class:`Argus3D` trains a tokenizer and a prior, and makes, completes and rebuilds meshes.

Stage one learns to turn points on a surface into codes and back; stage two learns the codes of the training shapes,
which are found once. What is asked for stands in front of a shape's tokens: its class, features that somebody else's
encoder makes of a picture or a text, or a part of the shape, as the tokens of that part (or as the vectors that
became them).

Source: X. Qian and others, 2024, arXiv 2402.12225, section 3. Departures. Stage one is trained on the mean over queries
and not on their sum, beside which the codes' part of the loss is so small that vectors run away from their codes. Codes
begin on vectors of the data, and those that no vector is near are put on others during the first four fifths of stage
one (``restart_every=0``: neither).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lodim.nets.activations import evaluation_mode
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed, torch_draws, torch_generator
from lodim.results import Result
from lodim.shapes.argus3d.prior import ShapeGPT
from lodim.shapes.argus3d.shape_set import ShapeSet
from lodim.shapes.argus3d.tokenizer import ShapeTokenizer
from lodim.shapes.meshes import check_points
from lodim.training import DescentRecipe, DescentResult, descend
from lodim.validation import check_counts, check_in_range, checked, plain_array, to_torch

__all__ = ["Argus3D", "CodeUsage", "cut_points"]

Told = Callable[[float, str], Any] | None
# share of a shape's points that a part has
KEPT = (0.25, 0.75)
# vectors a batch below which a code is taken for dead: from 1 its count falls so far in 22 batches
DEAD = 0.8
# share of the training in which dead codes come back
RESTARTS = 0.8


@checked
def cut_points(
    points: Any, keep: float | int = 0.5, random_state: RandomState = None
) -> Float[np.ndarray, "m xyz"]:
    """Return the points (m, 3) on one side of a plane in a random direction: the share ``keep`` of them."""
    cloud, rng = check_points(points, rows=1), as_generator(random_state)
    share = check_in_range(keep, "keep", low=0.0, high=1.0)
    height = cloud @ rng.standard_normal(3)
    return cloud[np.argsort(height, kind="stable")[: max(1, round(share * len(cloud)))]]


@dataclass(frozen=True)
class CodeUsage(Result):
    """How a set of shapes uses the codes.

    Attributes
    ----------
    counts : ndarray, shape (n_codes,)
        Tokens of each code.
    perplexity : float
        Exponential of the entropy of their shares: how many codes are in even use.
    used : float
        Share of the codes that occur.
    """

    counts: Int64[np.ndarray, " n_codes"]
    perplexity: float
    used: float

    def plot(self, ax: Any = None) -> Any:
        """Draw the codes' shares, the most frequent first, and return the axes."""
        from lodim.plots import COLORS, new_axes

        ax = new_axes(ax)
        ax.plot(np.sort(self.counts)[::-1] / self.counts.sum(), color=COLORS[0])
        ax.set(xlabel="code, the most frequent first", ylabel="share of the tokens", ylim=(0, None))
        return ax

    def __str__(self) -> str:
        return (
            f"{int((self.counts > 0).sum())} of {len(self.counts)} codes occur, as many as {self.perplexity:.0f} in "
            "even use"
        )


@checked
class Argus3D(nn.Module):
    """A tokenizer of shapes, and a prior over its tokens.

    Parameters
    ----------
    tokenizer : ShapeTokenizer
    prior : ShapeGPT
        Of as many codes and tokens. To complete shapes it has ``max_condition_tokens=tokenizer.n_tokens``, and
        ``condition_dim`` None (a part is told by its tokens) or the tokenizer's ``code_dim`` (by its vectors).

    Attributes
    ----------
    names : tuple of str
        Of the classes, those of the set that the prior was trained on.
    tokenizer_training_, prior_training_ : DescentResult or None
        Of the last training of each.

    Raises
    ------
    ValueError
        A prior of other codes or tokens than the tokenizer's.

    Examples
    --------
    >>> from lodim.datasets import procedural_solids
    >>> from lodim.shapes import shape_set
    >>> shapes = shape_set(procedural_solids(16, random_state=0), random_state=0)
    >>> tokenizer = ShapeTokenizer(16, 8, n_codes=32, unet_width=8, random_state=0)
    >>> model = Argus3D(tokenizer, ShapeGPT(32, tokenizer.n_tokens, 32, 1, 2, n_classes=8, random_state=0))
    >>> steps = model.fit_tokenizer(shapes, steps=5).steps + model.fit_prior(shapes, steps=5).steps
    >>> len(model.generate(2, y=0, resolution=16, threshold=0.01, generator=0))
    2
    """

    def __init__(self, tokenizer: ShapeTokenizer, prior: ShapeGPT) -> None:
        super().__init__()
        wanted, found = (tokenizer.n_codes, tokenizer.n_tokens), (prior.n_codes, prior.n_tokens)
        if wanted != found:
            raise ValueError(
                f"the prior must have the tokenizer's n_codes={wanted[0]} and n_tokens={wanted[1]}, got {found[0]} "
                f"and {found[1]}"
            )
        self.tokenizer, self.prior = tokenizer, prior
        self.names: tuple[str, ...] = ()
        self.tokenizer_training_: DescentResult | None = None
        self.prior_training_: DescentResult | None = None

    # ------------------------------------------------------------------------------------------------ training

    def fit_tokenizer(
        self,
        shapes: ShapeSet,
        *,
        steps: int = 3000,
        batch_size: int = 16,
        lr: float | int = 1e-3,
        n_queries: int = 1024,
        restart_every: int = 25,
        recipe: DescentRecipe | None = None,
        random_state: RandomState = 0,
        checkpoint: str | os.PathLike[str] | None = None,
        progress: Told = None,
        deadline: float | None = None,
        on_step: Callable[[Any], Any] | None = None,
    ) -> DescentResult:
        """Train stage one.

        Parameters
        ----------
        lr
            Of Adam; it falls as a cosine.
        n_queries : int
            Of each shape in a step, drawn anew from those of the set.
        restart_every : int
            Steps after which codes that no vector is near are put on some, in the first four fifths of the training.
            0: never, nor are the first codes taken from the data.
        recipe : DescentRecipe, optional
            In place of steps, batch_size and lr.
        checkpoint, progress, deadline, on_step
            As in :func:`~lodim.training.descend`.
        """
        check_counts(n_queries=n_queries)
        every = int(check_in_range(restart_every, "restart_every", low=0, integer=True))
        seed, tokenizer = root_seed(random_state), self.tokenizer
        quantizer: Any = tokenizer.quantizer
        loss = _Reconstruction(tokenizer, shapes, int(n_queries))
        fresh = float(quantizer.codebook.detach().abs().max()) <= 1 / quantizer.n_codes

        def after(run: Any) -> None:
            first = fresh and run.step == 1
            if every and (first or (run.step % every == 0 and run.share_done <= RESTARTS)):
                source = torch_generator(derive_seed(seed, "restart", run.step))
                which = torch.randint(len(shapes), (min(32, len(shapes)),), generator=source)
                with torch.no_grad():
                    vectors = tokenizer.latents(loss.points[which].to(_device(tokenizer)))
                quantizer.restart_dead(vectors, below=np.inf if first else DEAD, generator=source)
            if on_step is not None:
                on_step(run)

        tokenizer.train()
        self.tokenizer_training_ = descend(
            loss, tokenizer, recipe or DescentRecipe(steps=steps, batch_size=batch_size, lr=lr, schedule="cosine"),
            torch.arange(len(shapes)), random_state=derive_seed(seed, "tokenizer"), checkpoint=checkpoint,
            identity=None if checkpoint is None else {
                "shapes": loss.points, "queries": loss.queries, "occupancy": loss.occupancy,
                "n_queries": loss.n_queries, "restart_every": every,
            },
            progress=progress, deadline=deadline, on_step=after,
        )  # fmt: skip
        return self.tokenizer_training_

    def fit_prior(
        self,
        shapes: ShapeSet,
        *,
        condition: Any = None,
        n_partial: int = 4,
        steps: int = 3000,
        batch_size: int = 32,
        lr: float | int = 1e-3,
        recipe: DescentRecipe | None = None,
        random_state: RandomState = 0,
        checkpoint: str | os.PathLike[str] | None = None,
        progress: Told = None,
        deadline: float | None = None,
        on_step: Callable[[Any], Any] | None = None,
    ) -> DescentResult:
        """Train stage two, on the tokens that stage one has for the shapes.

        Parameters
        ----------
        shapes : ShapeSet
            Its labels are told where the prior has classes.
        condition : Tensor or "partial", optional
            Features (n, k, condition_dim) or tokens (n, k) of the shapes; or "partial": parts of the shapes, from a
            quarter to three quarters of the points, beyond a plane.
        n_partial : int
            Parts of each shape; one is drawn in a step.
        lr
            Of AdamW, reached within a twentieth of the steps; it falls as a cosine.
        recipe : DescentRecipe, optional
            In place of steps, batch_size and lr.
        checkpoint, progress, deadline, on_step
            As in :func:`~lodim.training.descend`.

        Raises
        ------
        ValueError
            More classes than the prior has, or a condition that it was not built for.
        """
        seed, prior = root_seed(random_state), self.prior
        n_names = len(shapes.names)
        if prior.n_classes and n_names > prior.n_classes:
            raise ValueError(f"the set has {n_names} classes, but the prior was built with {prior.n_classes}")
        data = [self._tokens(shapes.points), to_torch(shapes.labels)]
        views = isinstance(condition, str)
        if views:
            if condition != "partial":
                raise ValueError(f'condition must be a tensor or "partial", got {condition!r}')
            check_counts(n_partial=n_partial)
            data.append(torch.stack([self._parts(shapes, seed, k) for k in range(int(n_partial))], 1))
        elif condition is not None:
            told = (
                condition if isinstance(condition, Tensor) else to_torch(plain_array(condition, "condition"))
            )
            if told.shape[:1] != (len(shapes),):
                raise ValueError(
                    f"condition must be of {len(shapes)} shapes, as the set; got shape {tuple(told.shape)}"
                )
            data.append(told)

        def loss(tokens: Tensor, labels: Tensor, told: Tensor | None = None) -> Tensor:
            if told is not None and views:
                rows = torch.arange(len(told), device=told.device)
                told = told[rows, torch.randint(told.shape[1], (len(told),), device=told.device)]
            return prior.loss(tokens, y=labels if prior.n_classes else None, condition=told)

        if recipe is None:
            decay = partial(torch.optim.AdamW, weight_decay=0.01)
            recipe = DescentRecipe(
                steps=steps, batch_size=batch_size, lr=lr, optimizer=decay, schedule="cosine", warmup=steps // 20,
                grad_clip=1.0,
            )  # fmt: skip
        prior.train()
        self.names = shapes.names
        self.prior_training_ = descend(
            loss, prior, recipe, tuple(data), random_state=derive_seed(seed, "prior"), checkpoint=checkpoint,
            progress=progress, deadline=deadline, on_step=on_step,
        )  # fmt: skip
        return self.prior_training_

    def _tokens(self, points: np.ndarray) -> Tensor:
        device = _device(self.tokenizer)
        with evaluation_mode(self.tokenizer):
            return torch.cat([self.tokenizer.encode(x.to(device)) for x in to_torch(points).split(64)])

    def _parts(self, shapes: ShapeSet, seed: int, k: int) -> Tensor:
        """What the prior is told of a part of every shape."""
        found = np.empty_like(shapes.points)
        for i, cloud in enumerate(shapes.points):
            rng = as_generator(derive_seed(seed, "part", k, i))
            part = cut_points(cloud, rng.uniform(*KEPT), rng)
            found[i] = part[rng.permutation(np.arange(len(cloud)) % len(part))]
        return torch.cat(
            [self._told(torch.from_numpy(x)) for x in np.array_split(found, max(1, -(-len(found) // 64)))]
        )

    def _told(self, points: Tensor) -> Tensor:
        tokenizer, prior = self.tokenizer, self.prior
        dims, n_tokens = (None, tokenizer.quantizer.dim), tokenizer.n_tokens
        if prior.max_condition_tokens != n_tokens or prior.condition_dim not in dims:
            raise ValueError(
                f"parts of shapes need a prior with max_condition_tokens={n_tokens} and condition_dim None or "
                f"{dims[1]}, got {prior.max_condition_tokens} and {prior.condition_dim}"
            )
        points = points.to(_device(tokenizer))
        with evaluation_mode(tokenizer), torch.no_grad():
            return tokenizer.encode(points) if prior.condition_dim is None else tokenizer.latents(points)

    # ------------------------------------------------------------------------------------------------ shapes

    def generate(
        self,
        n: int | np.integer,
        *,
        y: Any = None,
        condition: Tensor | None = None,
        resolution: int = 64,
        threshold: float | int = 0.5,
        generator: torch.Generator | RandomState = None,
        progress: Told = None,
        **options: Any,
    ) -> list[Any]:
        """Make n new shapes, as ``trimesh.Trimesh`` in the cube [-0.5, 0.5]^3.

        Parameters
        ----------
        y : int or str, or n of them, optional
            Classes, by number or name.
        condition, options
            See :meth:`ShapeGPT.sample <lodim.shapes.argus3d.ShapeGPT.sample>`.
        resolution, threshold
            See :meth:`ShapeTokenizer.to_mesh <lodim.shapes.argus3d.ShapeTokenizer.to_mesh>`. A shape without any point
            as probable as ``threshold`` has no faces, with a warning.
        generator : torch.Generator, int or None
            A seed gives the same shapes again.
        """
        tokens = self.prior.sample(
            n, y=self._classes(y), condition=condition, generator=torch_draws(generator), **options
        )
        meshes = []
        for i, row in enumerate(tokens):
            meshes.append(self.tokenizer.to_mesh(row, resolution, threshold))
            if progress is not None:
                progress((i + 1) / len(tokens), f"{i + 1} of {len(tokens)} meshes")
        return meshes

    def _classes(self, y: Any) -> Any:
        """Classes as numbers."""
        given = np.asarray(y) if isinstance(y, str | list | tuple | np.ndarray) else None
        if given is None or given.dtype.kind not in "UO" or not self.prior.n_classes:
            return y
        if not self.names:
            raise ValueError(
                f"no class has a name before fit_prior has seen a set, got {y!r}; give numbers, or set names"
            )
        unknown = [name for name in given.ravel().tolist() if name not in self.names]
        if unknown:
            raise ValueError(f"y must name classes among {self.names}, got {unknown[0]!r}")
        places = np.array([self.names.index(name) for name in given.ravel().tolist()])
        return torch.from_numpy(places.reshape(given.shape))

    def complete(self, points: Any, n: int = 1, **options: Any) -> list[Any]:
        """Make n shapes of which a part is known, from points (m, 3) on it in the cube [-0.5, 0.5]^3.

        Train the prior with ``condition="partial"`` first.

        Parameters
        ----------
        options
            See :meth:`generate`.
        """
        return self.generate(n, condition=self._told(self._cloud(points)), **options)

    def reconstruct(self, points: Any, resolution: int = 64, threshold: float | int = 0.5) -> Any:
        """Return the mesh that the tokens of points (m, 3) on a surface stand for; see :meth:`generate`."""
        tokens = self.tokenizer.encode(self._cloud(points).to(_device(self.tokenizer)))
        return self.tokenizer.to_mesh(tokens[0], resolution, threshold)

    def _cloud(self, points: Any) -> Tensor:
        return to_torch(check_points(points, rows=1)).float()[None]

    @torch.no_grad()
    def iou(self, shapes: ShapeSet, threshold: float | int = 0.5) -> Float[np.ndarray, " n"]:
        """Return, of each shape, the queries that are inside both it and its reconstruction over those inside either.

        With queries near the surface this is lower than the share of volumes; see
        :func:`~lodim.shapes.volume_iou`. NaN where none is inside.
        """
        share = float(check_in_range(threshold, "threshold", low=0.0, high=1.0))
        level = torch.logit(torch.tensor(share, dtype=torch.float64))
        device, found = _device(self.tokenizer), []
        with evaluation_mode(self.tokenizer):
            for start in range(0, max(1, len(shapes)), 32):
                part = shapes[start : start + 32]
                tokens = self.tokenizer.encode(to_torch(part.points).to(device))
                queries = to_torch(part.queries).to(device)
                found.append((self.tokenizer.decode(tokens, queries) >= level.to(device)).cpu().numpy())
        inside = np.concatenate(found)
        both, either = ((inside & shapes.occupancy).sum(1), (inside | shapes.occupancy).sum(1))
        return np.where(either > 0, both / np.maximum(either, 1), np.nan)

    def code_usage(self, shapes: ShapeSet) -> CodeUsage:
        """Return how often each code occurs in a set of shapes, of which there must be some."""
        if not len(shapes):
            raise ValueError("shapes must hold a shape at least, got none")
        counts = np.bincount(
            self._tokens(shapes.points).cpu().numpy().ravel(), minlength=self.tokenizer.n_codes
        )
        shares = counts[counts > 0] / counts.sum()
        return CodeUsage(counts, float(np.exp(-(shares * np.log(shares)).sum())), float((counts > 0).mean()))


class _Reconstruction:
    """The loss of shapes by their numbers, at queries drawn anew."""

    def __init__(self, tokenizer: ShapeTokenizer, shapes: ShapeSet, n_queries: int) -> None:
        self.tokenizer, self.n_queries = tokenizer, min(n_queries, shapes.queries.shape[1])
        self.points, self.queries, self.occupancy = (
            to_torch(array) for array in (shapes.points, shapes.queries, shapes.occupancy)
        )

    def __call__(self, which: Tensor) -> Tensor:
        here = which.cpu()
        asked = torch.randint(self.queries.shape[1], (len(here), self.n_queries))
        rows = here[:, None]
        parts = (self.points[here], self.queries[rows, asked], self.occupancy[rows, asked])
        _, terms = self.tokenizer.loss(*(part.to(which.device) for part in parts))
        return terms["bce"] / self.n_queries + terms["vq"]


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
