r"""RARM: a transformer writes an image's codes, and looks at neighbours from a database while it writes.

With :math:`z_1, \ldots, z_T` an image's codes (:mod:`.codes`) and c the embeddings of its k neighbours in the database
(:mod:`.database`),

.. math:: p_\theta(z \mid c) = \prod_t p_\theta(z_t \mid z_0, \ldots, z_{t-1};\, c), \qquad
          L = -\frac{1}{T} \sum_t \log p_\theta(z_t \mid z_{<t}; c),

where :math:`z_0` is a start token, and every block attends to c after it has attended to the tokens before: a set,
without order. Sampling draws token after token, from logits pushed away from those without neighbours,

.. math:: l_u + s\,(l_c - l_u),

divided by a temperature and cut to the ``top_k`` largest. Those without neighbours, :math:`l_u`, are the network's
under a context of zeros.

===========================================  ===========================================================================
symbol in the paper                          name here
===========================================  ===========================================================================
z, codes of the first stage                  ``codebook.encode(X)``
:math:`\{\phi(y) : y \in \xi_k(x, D)\}`      ``context``, from ``retrieval``
s, temperature, top-k                        ``guidance``, ``temperature``, ``top_k``
m of :math:`p_D`                             ``top_m``
===========================================  ===========================================================================

Source: A. Blattmann and others, arXiv 2204.11824, section 3 and its appendix on RARM (18 layers, 12 heads of 64, 256
tokens of 16,384 codes; k = 4).

Departures. Embeddings are divided by one number, their root mean square in the database trained with: a fresh network
expects numbers about 1, and those of an embedding have any size. Codes come from k-means, see :mod:`.codes`. A context
of zeros is what the authors guide from, and a network with ``p_uncond=0`` never saw one while it trained: guidance then
is from whatever that gives. With ``p_uncond`` above 0 it is from the distribution without neighbours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from lodim.generative.diffusion import descend_averaged
from lodim.generative.losses import uniform
from lodim.generative.retrieval_diffusion.codes import PatchCodebook
from lodim.generative.retrieval_diffusion.database import Embed, Retrieval, RetrievalReport
from lodim.nets import CausalTransformer, KVCache, keep_likely, sample_categorical
from lodim.nets.activations import evaluation_mode
from lodim.randomness import RandomState, build_seeded, root_seed, torch_draws
from lodim.training import DescentRecipe, DescentResult
from lodim.validation import check_choice, check_in_range, checked

__all__ = ["RetrievalTransformer"]


@checked
class RetrievalTransformer(nn.Module):
    """A generator of small images as sequences of codes, with neighbours from a database for context.

    The ``state_dict`` has the network, the codes and the database's counts, but not the database, see
    :class:`~lodim.generative.Retrieval`.

    Parameters
    ----------
    codebook : PatchCodebook
        Fitted before :meth:`fit`.
    index, embed, k, normalize_context, same_within
        The database, how samples are embedded, and how many neighbours are shown: see
        :class:`~lodim.generative.Retrieval`.
    net : CausalTransformer, optional
        With ``codebook.n_codes + 1`` tokens, the last of them the start, a length of ``codebook.length`` or more, and
        as its ``context_dim`` the numbers of an embedding. Default: one of width 128 with four blocks.
    p_uncond : float
        Share of training samples whose context is put to zero.
    random_state : int, Generator or None
        Of the default network's initial weights.

    Attributes
    ----------
    retrieval : Retrieval
        The database, its counts, and the check for copies.
    report_ : RetrievalReport or None
        Of the last :meth:`sample`: which items were shown, and how near the samples came to the database.
    training_ : DescentResult
        Of the last :meth:`fit`: losses (nats a token), steps, why it stopped.

    Raises
    ------
    ValueError
        A network that does not fit codebook and database.

    Examples
    --------
    >>> X = np.random.default_rng(0).integers(0, 2, (100, 4, 4)).astype(float)
    >>> codebook = PatchCodebook((4, 4), n_codes=16).fit(X)
    >>> model = RetrievalTransformer(codebook, X, random_state=0).fit(X, ids=np.arange(100), steps=5)
    >>> model.sample(3, generator=0).shape
    (3, 4, 4)
    """

    context_unit: Tensor
    report_: RetrievalReport | None
    training_: DescentResult | None

    def __init__(
        self,
        codebook: PatchCodebook,
        index: Any,
        embed: Embed | None = None,
        k: int | np.integer = 4,
        *,
        net: CausalTransformer | None = None,
        p_uncond: float | int = 0.0,
        normalize_context: bool = False,
        same_within: float | int | None = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__()
        retrieval = Retrieval(index, embed, k, normalize_context=normalize_context, same_within=same_within)
        self.retrieval, self.codebook = retrieval, codebook
        self.quantizer = codebook.quantizer  # so that its state and its device are the model's
        self.p_uncond = float(check_in_range(p_uncond, "p_uncond", low=0, high=1))
        wanted = (codebook.n_codes + 1, codebook.length, retrieval.dim)
        if net is None:
            net = build_seeded(
                lambda: CausalTransformer(wanted[0], wanted[1], context_dim=wanted[2]),
                root_seed(random_state),
            )
        found = (net.embed.num_embeddings, len(net.positions), net.context_dim)
        if found[0] != wanted[0] or found[1] < wanted[1] or found[2] != wanted[2]:
            raise ValueError(
                f"net must have n_tokens={wanted[0]} (the codes and a start), a length of at least {wanted[1]} and "
                f"context_dim={wanted[2]}; got {found[0]}, {found[1]} and {found[2]}"
            )
        self.net = net
        self.register_buffer("context_unit", torch.ones(()))
        self.training_, self.report_, self._numpy = None, None, False
        self._raw: list[Tensor] | None = None

    # ------------------------------------------------------------------------------------------------ training

    def logits(
        self,
        codes: Int[Tensor, "batch tokens"],
        context: Float[Tensor, "batch k dim"] | None = None,
    ) -> Float[Tensor, "batch tokens n_codes"]:
        """Return each code's logits given those before it (its own and later ones are not looked at).

        Parameters
        ----------
        context : Tensor, shape (batch, k, dim), optional
            Embeddings, in any order; default: zeros, which say nothing.
        """
        start = codes.new_full((len(codes), 1), self.codebook.n_codes)
        read = torch.cat([start, codes[:, :-1]], 1)
        return self.net(read, context=self._shown(context, len(codes)))[..., :-1]

    def _shown(self, context: Tensor | None, n: int) -> Tensor:
        if context is None:
            return self.net.positions.new_zeros(n, 1, self.net.context_dim)
        return context.to(self.net.positions) / self.context_unit

    def loss(
        self,
        x: Float[Tensor, "batch ..."],
        neighbours: Int[Tensor, "batch m"] | None = None,
        *,
        generator: torch.Generator | None = None,
        reduction: str = "mean",
    ) -> Float[Tensor, " ..."]:
        """Return the cross-entropy of images' codes, nats a token; over log 2 it is bits.

        Parameters
        ----------
        neighbours : int Tensor, shape (batch, k or more), optional
            Ids of items, the nearest first. Default: searched for, images themselves left out. Of each image they are
            left out with probability ``p_uncond``.
        reduction : {"mean", "none"}
            One number, or one an image.
        """
        check_choice(reduction, ("mean", "none"), "reduction")
        retrieval, codes = self.retrieval, self.codebook.encode(x)
        if neighbours is None:
            neighbours = torch.from_numpy(retrieval.search(x)[1])
        if len(neighbours) != len(x) or neighbours.shape[1] < retrieval.k:
            raise ValueError(
                f"neighbours must have shape ({len(x)}, {retrieval.k} or more), got {tuple(neighbours.shape)}"
            )
        context = retrieval.vectors(neighbours[:, : retrieval.k], codes.device)
        each = self._surprise(codes, context, generator)
        return each.mean() if reduction == "mean" else each

    def _surprise(self, codes: Tensor, context: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if self.p_uncond:
            dropped = uniform(context, generator) < self.p_uncond
            context = torch.where(dropped[:, None, None], 0, context)
        logits = self.logits(codes, context)
        return nn.functional.cross_entropy(logits.transpose(1, 2), codes, reduction="none").mean(1)

    def fit(
        self,
        X: Any,
        ids: Any = None,
        *,
        neighbours: Any = None,
        steps: int = 2000,
        batch_size: int = 128,
        lr: float | int = 1e-3,
        recipe: DescentRecipe | None = None,
        half_life: float | int | None = None,
        random_state: RandomState = 0,
        checkpoint: str | os.PathLike[str] | None = None,
        progress: Callable[[float, str], Any] | None = None,
        deadline: float | None = None,
        accelerator: Any = None,
    ) -> RetrievalTransformer:
        """Train on images, each with its neighbours in the database, and keep the running average of the weights.

        Parameters
        ----------
        X : array or Tensor, shape (n, ...)
            Samples are NumPy arrays if these are.
        ids, neighbours : int array, optional
            See :meth:`~lodim.generative.Retrieval.prepare`: images' own ids in the database, and neighbours found
            elsewhere.
        steps, batch_size, lr, recipe, half_life, random_state, checkpoint, progress, deadline, accelerator
            As in :meth:`~lodim.generative.Diffusion.fit`.

        Raises
        ------
        ValueError
            Images that the codebook does not take, a codebook without codes, or fewer neighbours than k.
        """
        codes = torch.as_tensor(self.codebook.encode(X)).to(self.net.positions.device)
        if not len(codes):
            raise ValueError("X has no images; one is the least, and hundreds are wanted")
        unit = self.context_unit.clone()
        with self.retrieval.or_as_before(), evaluation_mode(self):  # which gives each part its own mode again
            table = self.retrieval.prepare(X, ids, neighbours)[:, : self.retrieval.k].to(codes.device)
            # the descent knows of the loss its code alone
            identity = {"table": table, "p_uncond": self.p_uncond, **self.retrieval.identity()}
            size = float(identity["shown"].double().square().mean().sqrt())
            self.context_unit.fill_(size or 1.0)
            raw, self._raw, self.training_ = self._raw, None, None
            self.train()
            try:
                self.training_, self._raw = descend_averaged(
                    _Objective(self, table), self.net, codes,
                    recipe or DescentRecipe(steps=steps, batch_size=batch_size, lr=lr), raw, half_life,
                    random_state=random_state, checkpoint=checkpoint, progress=progress, deadline=deadline,
                    identity=None if checkpoint is None else identity, accelerator=accelerator,
                )  # fmt: skip
            except Exception:
                self.context_unit.copy_(unit)
                raise
        self._numpy = not isinstance(X, Tensor)
        return self

    # ------------------------------------------------------------------------------------------------ sampling

    @torch.no_grad()
    def sample(
        self,
        n: int | np.integer,
        *,
        temperature: float | int = 1.0,
        top_k: int | np.integer | None = 256,
        guidance: float | int = 1.0,
        top_m: float | int | np.number = 0.01,
        use_weights: bool = False,
        k: int | np.integer | None = None,
        query: Any = None,
        query_mode: str = "prepend",
        labels: Any = None,
        index: Any = None,
        copies: str = "report",
        generator: torch.Generator | RandomState = None,
        batch_size: int = 4096,
    ) -> Any:
        """Draw new images, code after code; :attr:`report_` then says from what, and how near they came to it.

        Parameters
        ----------
        temperature, top_k : float, int or None
            See :func:`lodim.nets.keep_likely`; ``top_k=1`` takes the likeliest code each time.
        guidance : float
            1: as trained, 0: without neighbours, above 1: surer of the neighbours and less diverse.
        top_m, use_weights, k, query, query_mode, labels, index, copies
            What is looked up where, and what is done about copies: as in
            :meth:`RetrievalDiffusion.sample <lodim.generative.RetrievalDiffusion.sample>`.
        generator : torch.Generator, int or None
            A seed gives the same images again.
        batch_size : int
            Images drawn at once.

        Returns
        -------
        Tensor or ndarray, shape (n, ...)
            NumPy where the model was fitted to NumPy.
        """
        n = int(check_in_range(n, "n", low=0, integer=True))
        scale = float(check_in_range(guidance, "guidance", low=-sys.float_info.max, high=sys.float_info.max))
        batch_size = int(check_in_range(batch_size, "batch_size", low=1, integer=True))
        source, device = torch_draws(generator), self.net.positions.device
        options = {
            "top_k": None if top_k is None else int(check_in_range(top_k, "top_k", low=1, integer=True)),
            "temperature": float(temperature),
        }

        def generate(context: Tensor) -> Any:
            codes = [self._write(part, scale, source, options) for part in context.split(batch_size)]
            images = self.codebook.decode(torch.cat(codes))
            return images.cpu().numpy() if self._numpy else images

        with self.retrieval.using(index), evaluation_mode(self):
            make = self.retrieval.maker(
                n, generate, query=query, query_mode=query_mode, labels=labels, top_m=top_m, use_weights=use_weights,
                k=k, generator=source, device=device,
            )  # fmt: skip
            images, self.report_ = self.retrieval.draw(n, make, copies)
        return images

    def _write(
        self, context: Tensor, scale: float, source: torch.Generator | None, options: dict[str, Any]
    ) -> Int64[Tensor, "batch tokens"]:
        """Draw codes; with guidance the batch is twice as long, its second half without neighbours."""
        shown, guides = self._shown(context, len(context)), scale != 1
        if guides:
            shown = torch.cat([shown, torch.zeros_like(shown)])
        new = torch.full((len(shown), 1), self.codebook.n_codes, device=shown.device)
        cache, codes = KVCache(), []
        for _ in range(self.codebook.length):
            logits = self.net(new, cache, context=shown)[:, -1, :-1]
            if guides:
                some, none = logits.chunk(2)
                logits = none + scale * (some - none)
            likely = keep_likely(logits, **options)
            codes.append(sample_categorical(likely, generator=source))
            new = codes[-1].repeat(2 if guides else 1)[:, None]
        return torch.stack(codes, 1)

    def swap_index(self, index: Any, embed: Embed | None = None) -> RetrievalTransformer:
        """Use another database from now on, without a change of any weight.

        See :meth:`Retrieval.swap <lodim.generative.Retrieval.swap>`.
        """
        self.retrieval.swap(index, embed)
        return self


class _Objective:
    """The loss of a batch of codes and their numbers, by which neighbours are found."""

    def __init__(self, model: RetrievalTransformer, table: Tensor) -> None:
        self.model, self.table = model, table

    def __call__(self, codes: Tensor, index: Tensor) -> Tensor:
        return self.model._surprise(codes, self.model.retrieval.vectors(self.table[index])).mean()
