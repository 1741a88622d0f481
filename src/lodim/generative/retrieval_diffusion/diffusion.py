r"""Diffusion that is shown neighbours from a database: :class:`RetrievalDiffusion`.

The denoiser of :class:`~lodim.generative.Diffusion` sees a set of k vectors beside the noisy sample, through
cross-attention at every resolution, and is trained by the same loss:

.. math:: L = \mathbb{E}\, w(\sigma)\, |D_\theta(x + \sigma n, \sigma, \{\phi(y) : y \in \xi_k(x, D)\}) - x|^2 .

Guidance leaves what the network would say of no neighbours, :math:`D_u + s (D_c - D_u)`. The vector that stands for
"no neighbours", repeated k times, is learnt where training left the neighbours out now and then (``p_uncond`` above
0), and else a fixed random one.

================================  =============================================================================
symbol in the paper               name here
================================  =============================================================================
:math:`\epsilon_\theta`           ``denoiser.eps``, of ``cond={"context": ...}``
:math:`\phi`, D, :math:`\xi_k`    ``retrieval`` (:class:`~lodim.generative.Retrieval`)
m, s                              ``top_m``, ``guidance``
================================  =============================================================================

Source: A. Blattmann and others, arXiv 2204.11824, sections 3.2 and 3.3 (RDM).

Departures. Neighbours are left out of a tenth of the training by default, of none in the authors' code: a random vector
says nothing among CLIP's 512 dimensions, but among few it is as good as an item, and :math:`2 D_c - D_u` lies beyond
the data (eight clusters in the plane: median distance to the data 0.5 instead of 0.006). No autoencoder around it:
samples are pixels, or whatever is given. Cross-attention and network are this library's. Where the authors draw 100
steps of DDIM, the default is 18 of Heun.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from lodim.generative.denoiser import Condition
from lodim.generative.diffusion import Diffusion
from lodim.generative.guidance import ClassifierFree, Guidance
from lodim.generative.losses import uniform
from lodim.generative.retrieval_diffusion.database import Embed, Retrieval, RetrievalReport
from lodim.nets import SmallUNet, TimeMLP
from lodim.randomness import RandomState, build_seeded, root_seed, torch_draws
from lodim.validation import check_in_range, checked

__all__ = ["RetrievalDiffusion", "WithoutContext"]


class WithoutContext(nn.Module):
    """A network whose context may be missing: rows of NaN, or no context, become the vector of "no neighbours".

    Parameters
    ----------
    net : nn.Module
        ``net(x, c_noise, cond)`` with ``cond["context"]``.
    dim : int
        Numbers of a vector of the context.
    learnt : bool
        Whether the vector is a parameter; else it is a buffer, and kept as it was drawn.
    norm : float, optional
        Its length; default: as drawn from the standard normal.
    """

    nothing: Tensor

    def __init__(self, net: nn.Module, dim: int, *, learnt: bool, norm: float | int | None = None) -> None:
        super().__init__()
        self.net = net
        nothing = torch.randn(dim)
        if norm is not None:
            nothing *= float(norm) / nothing.norm()
        if learnt:
            self.nothing = nn.Parameter(nothing)
        else:
            self.register_buffer("nothing", nothing)

    def forward(
        self, x: Float[Tensor, "batch ..."], c_noise: Shaped[Tensor, " batch"], cond: Condition | None = None
    ) -> Float[Tensor, "batch ..."]:
        """Apply the network."""
        given = dict(cond or {})
        context = given.get("context")
        nothing = self.nothing.to(x.dtype)
        if context is None:  # of equal vectors attention sees one
            given["context"] = nothing.expand(len(x), 1, -1)
        else:
            unknown = context.isnan().any(2, keepdim=True)
            given["context"] = torch.where(unknown, nothing, context.to(x.dtype))
        return self.net(x, c_noise, given)  # type: ignore[no-any-return]


@checked
class RetrievalDiffusion(Diffusion):
    """A small generator of arrays or images that looks up neighbours in a database, which can be exchanged.

    Parameters
    ----------
    net : nn.Module, optional
        A backbone with ``context_dim`` numbers of an embedding, see :mod:`lodim.nets.denoisers`. Default: a
        :class:`~lodim.nets.SmallUNet` for images of shape (channels, height, width), else a
        :class:`~lodim.nets.TimeMLP`.
    shape : int or tuple of int
        Of one sample.
    index : NeighborIndex or array
        The database: embeddings with ids and labels, or samples that are embedded here.
    embed : callable, optional
        Of samples, see :class:`~lodim.generative.Retrieval`. It decides what is near and what content is.
    k : int
        Neighbours that the network is shown.
    p_uncond : float
        Share of training samples without neighbours. 0: guidance starts from a fixed random vector, as in the
        authors' code; where embeddings have few dimensions the network takes that for content, and guidance above 1
        leaves the data.
    nothing_norm : float, optional
        Length of the vector that stands for no neighbours; default: as drawn from the standard normal.
    normalize_context : bool
        Show vectors of length 1.
    same_within : float, optional
        See :class:`~lodim.generative.Retrieval`.
    **options
        Those of :class:`~lodim.generative.Diffusion`, but no classes and no numbers: the condition is what is
        retrieved.

    Attributes
    ----------
    retrieval : Retrieval
        The database, its counts, and the check for copies.
    report_ : RetrievalReport or None
        Of the last :meth:`sample`: which items were shown, and how near the samples came to the database.
    training_ : DescentResult

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(200, 2)) * [1, 0.1]
    >>> model = RetrievalDiffusion(shape=2, index=X, random_state=0).fit(X, ids=np.arange(200), steps=20)
    >>> model.sample(4, generator=0).shape
    (4, 2)
    >>> model.report_.neighbours.shape
    (4, 4)
    """

    report_: RetrievalReport | None

    def __init__(
        self,
        net: nn.Module | None = None,
        shape: int | Sequence[int] = (2,),
        index: Any = None,
        embed: Embed | None = None,
        k: int = 4,
        *,
        p_uncond: float | int = 0.1,
        nothing_norm: float | int | None = None,
        normalize_context: bool = False,
        same_within: float | int | None = None,
        random_state: RandomState = None,
        **options: Any,
    ) -> None:
        if index is None:
            raise ValueError("index is missing: give a NeighborIndex of embeddings, or samples")
        if unknown := {"n_classes", "cond_dim"} & options.keys():
            raise ValueError(
                f"{unknown.pop()} is for Diffusion: here the condition is what is retrieved, and labels are those of "
                "the database, sample(labels=...)"
            )
        if nothing_norm is not None and not check_in_range(nothing_norm, "nothing_norm", low=0) < math.inf:
            raise ValueError(f"nothing_norm must be finite, got {nothing_norm}")
        retrieval = Retrieval(index, embed, k, normalize_context=normalize_context, same_within=same_within)
        dim = retrieval.dim
        if net is not None and getattr(net, "sizes", {}).get("context", dim) != dim:
            raise ValueError(
                f"the net takes a context of {net.sizes['context']} numbers, the database has {dim}: "  # type: ignore[index]
                f"build it with context_dim={dim}"
            )

        def build() -> nn.Module:
            sizes = (int(shape),) if not isinstance(shape, Sequence) else tuple(shape)
            inner = net
            if inner is None and len(sizes) == 3:
                inner = SmallUNet(sizes[0], context_dim=dim)
            inner = inner or TimeMLP(math.prod(sizes), context_dim=dim)
            return WithoutContext(inner, dim, learnt=p_uncond > 0, norm=nothing_norm)

        super().__init__(build_seeded(build, root_seed(random_state)), shape, p_uncond=p_uncond, **options)
        self.retrieval, self.report_ = retrieval, None

    # ------------------------------------------------------------------------------------------------ training

    def loss(
        self,
        x: Float[Tensor, "batch ..."],
        cond: Any = None,
        *,
        neighbours: Int[Tensor, "batch m"] | None = None,
        generator: torch.Generator | None = None,
        reduction: str = "mean",
    ) -> Float[Tensor, " ..."]:
        """Return the schedule's loss of samples in their own unit.

        Parameters
        ----------
        cond : mapping, optional
            With a ``"context"``, shape (n, k, dim), instead of neighbours.
        neighbours : Tensor, shape (n, k or more), optional
            Ids of each sample's neighbours, the nearest first: rows of what
            :meth:`Retrieval.prepare <lodim.generative.Retrieval.prepare>` returns. Without them they are searched now,
            where a sample's own id is not known.
        """
        if neighbours is not None and cond is not None:
            raise ValueError("give neighbours or a context in cond, not both")
        if neighbours is None and cond is None:
            neighbours = torch.from_numpy(self.retrieval.search(x)[1])
        if neighbours is not None:
            k = self.retrieval.k
            if neighbours.shape[1] < k or len(neighbours) != len(x):
                raise ValueError(
                    f"neighbours must have shape ({len(x)}, {k} or more), got {tuple(neighbours.shape)}"
                )
            cond = {"context": self.retrieval.vectors(neighbours[:, :k], x.device)}
        if self.p_uncond:
            dropped = (uniform(x, generator) < self.p_uncond)[:, None, None]
            cond = {**cond, "context": torch.where(dropped, float("nan"), cond["context"])}
        return super().loss(x, cond, generator=generator, reduction=reduction)

    def fit(  # type: ignore[override]
        self, X: Any, ids: Any = None, *, neighbours: Any = None, **options: Any
    ) -> RetrievalDiffusion:
        """Find each sample's neighbours once, train with them, and keep the running average of the weights.

        Parameters
        ----------
        X : array or Tensor, shape (n, ...)
            Samples are NumPy arrays if these are.
        ids : int array, shape (n,), optional
            Each sample's own id in the database, so that it is not shown to itself. Items equal to a sample, by
            ``same_within``, are left out without it too.
        neighbours : int array, shape (n, k or more), optional
            Ids found elsewhere, the nearest first, instead of a search; then ``ids`` say nothing.
        **options
            Those of :meth:`Diffusion.fit`, without ``cond`` and ``each``.

        Raises
        ------
        ValueError
            What :meth:`Diffusion.fit` raises, or a database with too few items that are not the sample itself.
        """
        if unknown := {"cond", "each"} & options.keys():
            raise TypeError(f"fit takes no {unknown.pop()}: the condition is what is retrieved")
        with warnings.catch_warnings():  # the other look at them warns
            warnings.simplefilter("ignore", UserWarning)
            rows = self._samples(X)
        with self.retrieval.or_as_before():
            super().fit(rows, each={"neighbours": self.retrieval.prepare(rows, ids, neighbours)}, **options)
        self._numpy = not isinstance(X, Tensor)
        return self

    # ------------------------------------------------------------------------------------------------ use

    def sample(  # type: ignore[override]
        self,
        n: int,
        *,
        top_m: float | int = 0.01,
        use_weights: bool = False,
        k: int | None = None,
        guidance: float | int | np.number | Guidance | Sequence[float | int | Guidance] | None = 2.0,
        query: Any = None,
        query_mode: str = "prepend",
        labels: Any = None,
        index: Any = None,
        copies: str = "report",
        generator: torch.Generator | RandomState = None,
        start: Any = None,
        **options: Any,
    ) -> Any:
        """Draw new samples from what is looked up; :attr:`report_` then says from what, and how near they came to it.

        Parameters
        ----------
        top_m : float or int
            Share (or number) of the database's items that pseudo-queries are drawn from, the most retrieved ones:
            small for fidelity, large for diversity.
        use_weights : bool
            Draw pseudo-queries by how often items were retrieved.
        k : int, optional
            Neighbours that the network is shown; default: as in training.
        guidance : float, callable or sequence of them, optional
            Scale away from no neighbours: 1 is plain, above 1 closer to what was retrieved.
        query : array or Tensor, optional
            Instead of pseudo-queries: a vector for all, shape (dim,), or one a sample, shape (n, dim), embedded from
            whatever shares the space; ids of items, shape (n,), whose neighbours are shown; or ids, shape (n, k), of
            the items shown.
        query_mode : {"prepend", "omit", "only"}
            With vectors: show the vector and its k - 1 neighbours, its k neighbours, or the vector alone.
        labels : optional
            Draw pseudo-queries among the database's items of this label, one for all or one a sample.
        index : NeighborIndex or array, optional
            Another database for this call; see :meth:`swap_index`.
        copies : {"report", "redraw", "raise"}
            What to do with samples that lie nearer to an item than real data do; see
            :meth:`Retrieval.calibrate <lodim.generative.Retrieval.calibrate>`. Those drawn again have new noise and,
            unless ``query`` is given, new pseudo-queries.
        generator : torch.Generator, int or None
            A seed gives the same samples again.
        start : array or Tensor, optional
            Noise of the highest level to begin with.
        **options
            Further ones of :meth:`Diffusion.sample`, without ``cond``.

        Warns
        -----
        UserWarning
            It is not known how often items were retrieved: the database was exchanged.
        """
        n = int(check_in_range(n, "n", low=0, integer=True))
        if options.pop("cond", None) is not None:
            raise ValueError("the condition is what is retrieved: give query or labels, not cond")
        source, noise = torch_draws(generator), start
        guide: Any = guidance.item() if isinstance(guidance, np.number) else guidance

        def generate(context: Tensor) -> Any:
            nonlocal noise
            begin, noise = noise, None
            return super(RetrievalDiffusion, self).sample(
                len(context),
                cond={"context": context},
                guidance=guide,
                generator=source,
                start=begin,
                **options,
            )

        with self.retrieval.using(index):
            make = self.retrieval.maker(
                n, generate, query=query, query_mode=query_mode, labels=labels, top_m=top_m, use_weights=use_weights,
                k=k, generator=source,
            )  # fmt: skip
            samples, self.report_ = self.retrieval.draw(n, make, copies)
        return samples

    def _identity(self) -> dict[str, Any]:
        return super()._identity() | self.retrieval.identity()

    def _guidance(self, guidance: Any, given: Condition | None) -> Any:
        if isinstance(guidance, int | float) and given is not None:
            return None if guidance == 1 else ClassifierFree(guidance, without=_nothing)
        return super()._guidance(guidance, given)

    def swap_index(self, index: Any, embed: Embed | None = None) -> RetrievalDiffusion:
        """Use another database from now on, without a change of any weight.

        See :meth:`Retrieval.swap <lodim.generative.Retrieval.swap>`.
        """
        self.retrieval.swap(index, embed)
        return self


def _nothing(cond: Condition) -> Condition:
    return {"context": torch.full_like(cond["context"], float("nan"))}
