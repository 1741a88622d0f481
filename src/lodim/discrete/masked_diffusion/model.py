r"""Generate and score tokens in any order: :class:`MaskedDiffusion`, a network that guesses hidden tokens.

Tokens :math:`x \in \{0, \dots, V - 1\}^L`; the mask m is token V. The network's answer :math:`\mu(x)[l, v]` is a law of
the real tokens at every hidden place; a place that is not hidden keeps its token. The bound on -log p(x), in nats, is

.. math::

    \int_0^1 \frac{s_t'}{s_t}\, \mathrm{E} \sum_{l\ \text{hidden}} -\log \mu(x_t, t)[l, x_l]\, dt
    \;=\; \sum_{n=1}^{L} \frac{1}{n}\, \mathrm{E} \sum_{l\ \text{hidden},\ n\ \text{of them}} -\log \mu(x)[l, x_l],

the *time form* and, for a network that knows no time, the *count form*: the number of hidden tokens is binomial given
t, and :math:`\binom{L}{n} \int_0^1 s^{n-1} (1-s)^{L-n}\, ds = 1/n`. The count form does not know the schedule; it is
the any-order autoregressive bound :math:`\mathrm{E}_\sigma \sum_d -\log p(x_{\sigma(d)} \mid x_{\sigma(<d)})`.
So masked diffusion, a masked language model with these weights and an any-order autoregressive model are one object,
and one class. Cells that are not known stay hidden and are never asked for: the bound is then that of the known ones.

Given n hidden tokens the share s has law Beta(n, L - n + 1). The normalised geometric mean of a network's answers over
that law never has a worse bound on complete sequences (:meth:`MaskedDiffusion.time_marginalised`), so time is left out
by default.

===========================  ==============================================
symbol in the paper          name here
===========================  ==============================================
:math:`\alpha_t`             1 - ``schedule.share(t)``
:math:`\mu_\theta(x, t)`     ``log_probs(x, t)``, its logarithm
m                            ``mask_id``
:math:`|\mathcal{X}|`, L     ``n_tokens``, ``length``
===========================  ==============================================

Source: K. Zheng and others, 2024, arXiv 2409.02908, sections 2 to 4. Departures: several vocabularies, one a place;
cells that are not known; a second order of its own, see :mod:`lodim.discrete.masked_diffusion.samplers`.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import beta
from torch import Tensor, nn

from lodim.discrete.masked_diffusion.samplers import OnStep, Unmasking, ancestral, first_hitting
from lodim.discrete.masked_diffusion.schedules import MaskSchedule, schedule_named
from lodim.discrete.masking import (
    as_tokens,
    check_tokens,
    hidden,
    random_orders,
    ranks_along,
    stratified,
    token_counts,
    uniform,
)
from lodim.discrete.vocabulary import Columns, Vocabulary, codec_of
from lodim.nets import BidirectionalTransformer, ResidualMLP, keep_likely
from lodim.nets.activations import evaluation_mode
from lodim.nets.tokens import TokenNet
from lodim.randomness import RandomState, build_seeded, root_seed, torch_draws, torch_generator
from lodim.training import DescentRecipe, DescentResult, descend
from lodim.validation import (
    check_choice,
    check_counts,
    check_in_range,
    check_tensor,
    checked,
    plain_array,
    warn,
)

__all__ = ["AnyOrderAutoregressive", "MaskedDiffusion"]

OBJECTIVES = ("count", "time")
SAMPLERS = ("first_hitting", "ancestral")
LEAST_SHARE = 1e-4  # of the time form: of what is below, a ten-thousandth of the bound, nothing is drawn
MOST_TOKENS = 2**20  # of a vocabulary that is learnt from numbers
ROWS = 4096  # of one call of the network


@checked
class MaskedDiffusion(nn.Module):
    """A generative model of sequences of tokens, or of rows of a table of categories.

    Parameters
    ----------
    vocabulary : int, sequence of int, Vocabulary, Columns or None
        Tokens; tokens at each place; or what turns texts or frames into tokens and back. None: learnt by the first
        :meth:`fit`, when the network is built too.
    length : int, optional
        Places of a sequence, where the vocabulary does not say.
    backbone : nn.Module, optional
        ``net(x, t, y)``: logits (n, length, tokens) of sequences in which the mask is the last token, see
        :mod:`lodim.nets.tokens`. Default: a :class:`~lodim.nets.ResidualMLP` for tables, else a
        :class:`~lodim.nets.BidirectionalTransformer`.
    schedule : {"linear", "cosine"} or MaskSchedule
        Counts for ancestral sampling and for a network with time.
    objective : {"count", "time"}
        The form of the bound that is trained.
    time_conditioning : bool
        Whether the network is told the time.
    n_classes : int
        Classes that may come with a sequence, or 0.
    random_state : int, Generator or None
        Of the default network's weights.

    Attributes
    ----------
    n_tokens, mask_id : int
        Real tokens, the most of any place; and the mask, which has the same number.
    length : int
    sizes : Tensor, shape (length,)
        Tokens at each place.
    training_ : DescentResult
        Of the last :meth:`fit`.

    Raises
    ------
    ValueError
        Numbers out of range, or ``length`` at odds with the vocabulary.

    Examples
    --------
    >>> model = MaskedDiffusion(random_state=0).fit(["abab", "baba"] * 50, steps=100)
    >>> sorted(set(model.sample(20, generator=0)))
    ['abab', 'baba']
    """

    training_: DescentResult | None
    sizes: Tensor
    seen: Tensor
    seen_unlabelled: Tensor

    def __init__(
        self,
        vocabulary: int | Sequence[int] | Vocabulary | Columns | None = None,
        length: int | None = None,
        backbone: nn.Module | None = None,
        *,
        schedule: str | MaskSchedule = "linear",
        objective: str = "count",
        time_conditioning: bool = False,
        n_classes: int = 0,
        random_state: RandomState = None,
    ) -> None:
        super().__init__()
        self.schedule = schedule_named(schedule)
        self.objective = check_choice(objective, OBJECTIVES, "objective")
        self.time_conditioning = time_conditioning
        self.n_classes = int(check_in_range(n_classes, "n_classes", low=0, integer=True))
        if objective == "count" and time_conditioning:
            raise ValueError('a network with time_conditioning needs objective="time": counts know no time')
        self.vocabulary: Vocabulary | Columns | None = None
        self.backbone: nn.Module | None = backbone
        self.training_, self._numpy, self._seed = None, False, root_seed(random_state)
        self._length, self._counted = length, False
        if vocabulary is not None:
            self._build(vocabulary)

    def _build(self, vocabulary: int | Sequence[int] | Vocabulary | Columns) -> None:
        """Take a vocabulary, and make the default network for it."""
        codec = vocabulary if isinstance(vocabulary, Vocabulary | Columns) else None
        own: Any = vocabulary if codec is None else codec.sizes
        many = not isinstance(own, int | np.integer)
        length = codec.length if codec is not None else len(own) if many else self._length
        if length is None:
            raise ValueError("length must say how many places a sequence has")
        if self._length not in (None, length):
            raise ValueError(f"length is {self._length}, but the vocabulary has {length} places")
        each = [int(size) for size in own] if many else [int(own)] * length
        check_counts(length=length, vocabulary=min(each, default=0))
        self.vocabulary, self.length, self.n_tokens = codec, int(length), max(each)
        self.mask_id, self._uneven, self._alike = self.n_tokens, min(each) < max(each), not many
        self.register_buffer("sizes", torch.tensor(each))
        # what training has seen: tokens at each place, and sequences without a class
        self.register_buffer("seen", torch.zeros(self.length, self.n_tokens, dtype=torch.bool))
        self.register_buffer("seen_unlabelled", torch.tensor(False))
        if self.backbone is None:
            kind: Any = ResidualMLP if many else BidirectionalTransformer
            make = partial(
                kind, self.n_tokens + 1, self.length, time_conditioning=self.time_conditioning,
                n_classes=self.n_classes,
            )  # fmt: skip
            self.backbone = build_seeded(make, self._seed)
        elif isinstance(self.backbone, TokenNet) and self.backbone.n_tokens != self.n_tokens + 1:
            raise ValueError(
                f"the backbone must know {self.n_tokens + 1} tokens, of which the last is the mask, but was built for "
                f"{self.backbone.n_tokens}"
            )
        self._seed = 0  # of use to the default network only; a checkpoint must not hang on it

    # ------------------------------------------------------------------------------------------------ the law

    @checked
    def log_probs(
        self,
        x: Int[Tensor, "batch length"],
        t: Float[Tensor, " batch"] | None = None,
        y: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch length tokens"]:
        """Return the log-probability of every token at every place, given the places that are not hidden.

        Parameters
        ----------
        x : Tensor, shape (batch, length)
            ``mask_id`` where hidden. A place that is not has its own token for certain.
        t : Tensor, shape (batch,), optional
            Times in [0, 1], for a network with time; default: those at which as many are expected to be hidden.
        y : Tensor, shape (batch,), optional
            Classes; -1: not known.
        """
        x = self._tokens(x, "x")
        if t is not None and (t.shape != (len(x),) or not bool(((t >= 0) & (t <= 1)).all())):
            raise ValueError(f"t must be {len(x)} times from 0 to 1, got {t.detach().cpu().numpy()}")
        found = self._logits(x, t, y).log_softmax(-1)
        copied = torch.full_like(found, -torch.inf).scatter(-1, x.clamp(max=self.mask_id - 1)[..., None], 0.0)
        return torch.where((x == self.mask_id)[..., None], found, copied)

    def _logits(self, x: Tensor, t: Tensor | None, y: Tensor | None) -> Tensor:
        """The network's answer, in single precision at least; -inf at tokens that a place does not have."""
        given: dict[str, Any] = {}
        if self.time_conditioning:
            share = (x == self.mask_id).double().mean(1)
            given["t"] = (self.schedule.time(share) if t is None else t).to(share.device)
        elif t is not None:
            raise ValueError("t was given, but the network knows no time: build it with time_conditioning")
        if y is not None:
            given["y"] = y
        logits = self._network()(x, **given)
        if logits.shape != (*x.shape, self.n_tokens):
            raise ValueError(
                f"the backbone must return logits of shape {(*x.shape, self.n_tokens)}, one for each token but the "
                f"mask, got {tuple(logits.shape)}"
            )
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self._uneven:
            allowed = torch.arange(self.n_tokens, device=x.device) < self.sizes[:, None]
            logits = logits.masked_fill(~allowed, -torch.inf)
        return logits

    def _network(self) -> nn.Module:
        if not hasattr(self, "n_tokens"):
            raise RuntimeError("the model has no vocabulary yet: fit it, or build it with one")
        assert self.backbone is not None
        return self.backbone

    def _tokens(self, x: Tensor, name: str, *, holes: bool = True) -> Tensor:
        """Check tokens, as numbers, and bring them to the network."""
        self._network()
        x = x.to(self.sizes.device, torch.int64)
        check_tokens(x, self.sizes, self.mask_id, name)
        if not holes and bool((x == self.mask_id).any()):
            raise ValueError(
                f"{name} holds the mask, {self.mask_id}: the loss hides tokens itself; say with observed= which are "
                "known"
            )
        return x

    # ------------------------------------------------------------------------------------------------ the bound

    @checked
    def loss(
        self,
        x: Int[Tensor, "batch length"],
        y: Int[Tensor, " batch"] | None = None,
        *,
        observed: Bool[Tensor, "batch length"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, ""]:
        """Return an unbiased estimate of the bound on -log p, in nats a token, from one draw of hidden places a row.

        Parameters
        ----------
        observed : bool Tensor, optional
            The tokens that are known; of the others nothing is used. Without, the mask in ``x`` is an error.
        """
        x, known = self._known(x, observed)
        bound = self._draw(x, known, y, self.objective, stratified(x, generator), generator)
        return bound.sum() / known.sum().clamp(min=1)

    @checked
    def nelbo(
        self,
        x: Int[Tensor, "batch length"],
        y: Int[Tensor, " batch"] | None = None,
        *,
        n_samples: int = 32,
        form: str = "count",
        observed: Bool[Tensor, "batch length"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, " batch"]:
        """Return an unbiased estimate of the bound on -log p of every sequence, in nats; the time form is short of it
        by a ten-thousandth.

        Parameters
        ----------
        n_samples : int
            Draws of hidden places a sequence, even over their number; each costs a call of the network.
        form : {"count", "time"}
            See the module; a network with time has the second only.
        observed
            As of :meth:`loss`.
        """
        check_counts(n_samples=n_samples)
        check_choice(form, OBJECTIVES, "form")
        x, known = self._known(x, observed)
        offset = uniform(len(x), like=x, generator=generator)
        draws = (
            self._draw(x, known, y, form, (offset + i / n_samples) % 1.0, generator) for i in range(n_samples)
        )
        return sum(draws, torch.zeros((), device=x.device)) / n_samples

    def _known(self, x: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor]:
        """Tokens, masked where they are not known, and which are."""
        if observed is None:
            x = self._tokens(x, "x", holes=False)
            return x, torch.ones_like(x, dtype=torch.bool)
        if observed.shape != x.shape:
            raise ValueError(f"observed must have x's shape, {tuple(x.shape)}, got {tuple(observed.shape)}")
        known = observed.to(x.device)
        x = self._tokens(torch.where(known, x, self.mask_id), "x")
        known = known.to(x.device)
        if bool((known & (x == self.mask_id)).any()):
            raise ValueError("observed names places that hold the mask; those are not known")
        return x, known

    def _draw(
        self,
        x: Tensor,
        known: Tensor,
        y: Tensor | None,
        form: str,
        at: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        """The bound of each row from one draw; ``at`` in [0, 1) places it within the counts, or the times."""
        if form == "count":
            if self.time_conditioning:
                raise ValueError('a network with time has the time form of the bound only: form="time"')
            most = known.sum(1)
            n = torch.minimum((at * most).long() + 1, most)
            hides = hidden(random_orders(known, generator), n)
            weight, t = most / n.clamp(min=1), None
        else:
            # times are drawn such that their share is uniform, which makes their weight one over it
            share = LEAST_SHARE + (1 - LEAST_SHARE) * at
            hides = known & (uniform(*x.shape, like=x, generator=generator) < share[:, None])
            weight, t = (1 - LEAST_SHARE) / share, self.schedule.time(share)
        noisy = x.masked_fill(hides, self.mask_id)
        logits = self._logits(noisy, t if self.time_conditioning else None, y)
        entropy = nn.functional.cross_entropy(logits[hides], x[hides], reduction="none")
        weights = weight[:, None].expand_as(hides)[hides].to(entropy)
        rows = hides.nonzero()[:, 0]
        return torch.zeros(len(x), dtype=entropy.dtype, device=x.device).index_add(0, rows, weights * entropy)

    @checked
    def score_samples(
        self, X: Any, y: Any = None, *, n_samples: int = 32, random_state: RandomState = 0
    ) -> Float[np.ndarray, " n"]:
        """Return a lower bound on log p of the known cells of texts, rows or tokens as in :meth:`fit`, in nats.

        It is minus :meth:`nelbo`, from ``n_samples`` draws; its noise is that of the draws.
        """
        rows = self._encode(X, "X")
        labels, draws = self._classes(y, len(rows)), torch_generator(root_seed(random_state))
        form, own = "time" if self.time_conditioning else "count", _split(labels, len(rows), ROWS)
        with evaluation_mode(self), torch.no_grad():
            found = [
                self.nelbo(
                    part, y, n_samples=n_samples, form=form, observed=part != self.mask_id, generator=draws
                )
                for part, y in zip(rows.split(ROWS), own, strict=True)
            ]
        return -torch.cat(found).cpu().numpy()

    @checked
    def log_prob(
        self,
        x: Int[Tensor, "batch length"],
        order: Int[Tensor, "*batch length"] | None = None,
        y: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """Return log p along an order, in nats, exactly: one call of the network for each place that is known.

        A network with time is told the times at which as many places are expected to be hidden.

        Parameters
        ----------
        x : Tensor, shape (batch, length)
            Where it holds the mask nothing is known: the answer is that of the other places.
        order : Tensor, shape (length,) or (batch, length), optional
            Places in the order in which they are revealed; default: from left to right.
        """
        x = self._tokens(x, "x")
        order = torch.arange(self.length) if order is None else order
        places = ranks_along(order, x).argsort(1)
        known = x != self.mask_id
        # those that are not known reveal nothing: they go to the end, which is not walked
        places = places.gather(
            1, known.gather(1, places).to(torch.int8).argsort(dim=1, descending=True, stable=True)
        )
        state = torch.full_like(x, self.mask_id)
        total = torch.zeros(len(x), device=x.device)
        for place in places.T[: int(known.sum(1).max())]:
            at = place[:, None]
            token = x.gather(1, at)
            found = self._logits(state, None, y).gather(1, at[..., None].expand(-1, 1, self.n_tokens))[:, 0]
            gained = found.log_softmax(-1).gather(1, token.clamp(max=self.mask_id - 1))
            total = total + torch.where(token != self.mask_id, gained, 0)[:, 0]
            state = state.scatter(1, at, token)
        return total

    @checked
    def time_marginalised(self, n_quad: int = 16) -> MaskedDiffusion:
        """Return the model without time whose answers are this one's, averaged over the time given how many are hidden.

        The average is the normalised geometric mean over ``n_quad`` quantiles of Beta(n, L - n + 1), each a call. Its
        bound on complete sequences is never worse, but for the error of the quantiles; with cells that are not known,
        which count as hidden here, it may be. The network is shared.
        """
        check_counts(n_quad=n_quad)
        if not self.time_conditioning:
            raise ValueError("the model knows no time: there is nothing to average")
        self._network()
        new = copy.copy(self)
        new._modules = dict(self._modules)
        new.backbone = _TimeAverage(self, int(n_quad))
        new.time_conditioning, new.objective = False, "count"
        return new

    # ------------------------------------------------------------------------------------------------ training

    @checked
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        steps: int = 2000,
        batch_size: int = 128,
        lr: float | int = 1e-3,
        recipe: DescentRecipe | None = None,
        random_state: RandomState = 0,
        checkpoint: str | os.PathLike[str] | None = None,
        progress: Callable[[float, str], Any] | None = None,
        deadline: float | None = None,
    ) -> MaskedDiffusion:
        """Train on sequences; another call goes on from the weights that are there.

        Parameters
        ----------
        X : array or Tensor of int, shape (n, length); list of str; or DataFrame
            Tokens; texts; or columns of categories, in which what is missing stays hidden. Samples come back as this,
            whole numbers as int64. With a vocabulary a tensor is what it encodes to.
        y : array or Tensor, shape (n,), optional
            Classes from 0; -1: not known.
        X_val, y_val : as X and y, optional
            Sequences held out. Their bound is taken after every hundredth of the steps, and the weights that were best
            for it are kept.
        steps, batch_size, lr : int, int, float
            Of Adam at a rate that falls as a cosine; ``recipe`` says more, and then counts alone.
        checkpoint, progress, deadline
            As in :func:`~lodim.training.descend`.

        Raises
        ------
        ValueError
            Nothing to learn from, tokens out of range, sequences of another length, classes that do not fit. A model
            without a vocabulary then still has none.

        Warns
        -----
        UserWarning
            Rows in which nothing is known; they are left out.
        """
        before = {name: dict(v) if isinstance(v, dict) else v for name, v in vars(self).items()}
        try:
            rows, labels, held, labels_held = self._read(X, y, X_val, y_val)
        except (TypeError, ValueError):
            vars(self).clear()
            vars(self).update(
                before
            )  # without a vocabulary if it had none: that of other data is yet to come
            raise
        self._numpy = self.vocabulary is None and not isinstance(X, Tensor)
        self.seen |= token_counts(rows, self.mask_id) > 0
        self.seen_unlabelled |= labels is None or bool((labels < 0).any())
        recipe = recipe or DescentRecipe(steps=steps, batch_size=batch_size, lr=lr, schedule="cosine")
        recipe = recipe if held is None else _patient(recipe)
        score = None if held is None else partial(self._score, held, labels_held)
        self.training_ = None
        with evaluation_mode(self):  # of which only the way back counts: each part into its own mode
            self.train()
            self.training_ = descend(
                self._objective, self._network(), recipe, (rows,) if labels is None else (rows, labels),
                score=score, random_state=random_state, checkpoint=checkpoint, progress=progress, deadline=deadline,
                identity=None if checkpoint is None else {"objective": self.objective, "schedule": self.schedule},
            )  # fmt: skip
        return self

    def _objective(self, rows: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.loss(rows, labels, observed=rows != self.mask_id)

    def _score(self, held: Tensor, labels: Tensor | None = None) -> float:
        """Minus the bound of sequences held out, always with the same draws."""
        with evaluation_mode(self), torch.no_grad():
            known = held != self.mask_id
            form, draws = self.objective, torch_generator(0)
            bound = self.nelbo(held, labels, n_samples=8, form=form, observed=known, generator=draws)
        return -float(bound.sum() / known.sum().clamp(min=1))

    def _read(
        self, X: Any, y: Any, X_val: Any, y_val: Any
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """What :meth:`fit` is given, as tokens and classes; the vocabulary is learnt where there is none."""
        if not hasattr(self, "n_tokens"):
            vocabulary = self._vocabulary_of(X)
            self._counted = isinstance(vocabulary, int)
            self._build(vocabulary)
        rows = self._encode(X, "X")
        labels = self._labels(y, len(rows))
        full = (rows != self.mask_id).any(1)
        if not bool(full.all()):
            warn(f"{int((~full).sum())} of {len(rows)} rows have nothing that is known; they are left out")
        if not bool(full.any()):
            raise ValueError("X has no row in which something is known; there is nothing to learn from")
        rows, labels = rows[full], None if labels is None else labels[full]
        if X_val is None:
            if y_val is not None:
                raise ValueError("y_val was given without X_val")
            return rows, labels, None, None
        held = self._encode(X_val, "X_val")
        if (labels is None) != (y_val is None):
            raise ValueError(
                "y and y_val, the classes of X and X_val, go together; -1 where one is not known"
            )
        return rows, labels, held, self._labels(y_val, len(held), "y_val")

    def _vocabulary_of(self, X: Any) -> int | Vocabulary | Columns:
        """What turns X into tokens; of whole numbers how many there are."""
        if not len(X):
            raise ValueError("X has no rows; give one sequence or more")
        codec = codec_of(X, self._length)
        if codec is not None:
            return codec
        numbers = as_tokens(X, -1, "X")
        if not numbers.numel() or int(numbers.max()) < 0:
            raise ValueError(
                f"X, {tuple(numbers.shape)}, has no row in which something is known; there is nothing to learn from"
            )
        if int(numbers.max()) >= MOST_TOKENS:
            raise ValueError(
                f"X has numbers up to {int(numbers.max())}, and tokens are numbered from 0 on: "
                "np.unique(X, return_inverse=True) numbers them"
            )
        self._length = numbers.shape[1] if self._length is None else self._length
        return int(numbers.max()) + 1

    def _encode(self, X: Any, name: str, *, partial: bool = False) -> Tensor:
        if self.vocabulary is not None and not isinstance(X, Tensor):
            return self._tokens(self.vocabulary.encode(X, partial=partial), name)
        if partial or not self._counted:
            return self._tokens(as_tokens(X, self.mask_id, name), name)
        # tokens were counted, nobody has named the mask: a number that is the mask's is one more token
        gap = -(2**62)
        numbers = as_tokens(X, gap, name)
        if bool((numbers == self.mask_id).any()):
            raise ValueError(
                f"{name} holds {self.mask_id}, and what was fitted first had tokens from 0 to {self.mask_id - 1} only: "
                "say how many there are, MaskedDiffusion(vocabulary=...). What is not known is None or NaN"
            )
        return self._tokens(torch.where(numbers == gap, self.mask_id, numbers), name)

    def _labels(self, y: Any, n: int, name: str = "y") -> Tensor | None:
        if y is None:
            return None
        if not self.n_classes:
            raise ValueError(f"{name} was given, but the model was built with n_classes=0")
        values = check_tensor(y, name) if isinstance(y, Tensor) else plain_array(y, name)
        if tuple(values.shape) != (n,):
            raise ValueError(f"{name} must be {n} classes, one a sequence, got shape {tuple(values.shape)}")
        labels = as_tokens(values.reshape(-1, 1), -1, name)[:, 0].to(self.sizes.device)
        if bool(((labels < -1) | (labels >= self.n_classes)).any()):
            raise ValueError(
                f"{name} must hold classes from 0 to {self.n_classes - 1} (-1: not known), got "
                f"{labels.unique().tolist()[:12]}"
            )
        return labels

    def _classes(self, y: Any, n: int) -> Tensor | None:
        """Classes of sequences that are asked for, one for all or one each."""
        if y is None:
            if self.n_classes and not bool(self.seen_unlabelled) and bool(self.seen.any()):
                warn(
                    "y was left out, and training has never seen a sequence without a class: this was not learnt"
                )
            return None
        values = y if isinstance(y, Tensor) else np.asarray(y)
        return self._labels(values.reshape(1).repeat(n) if values.size == 1 else values, n)

    # ------------------------------------------------------------------------------------------------ sampling

    @checked
    def unmask(
        self,
        n: int | None = None,
        *,
        sampler: str = "first_hitting",
        steps: int | None = None,
        order: int = 1,
        prompt: Any = None,
        temperature: float | int = 1.0,
        top_p: float | int | None = None,
        y: Any = None,
        block_size: int | None = None,
        cache: bool = True,
        two_stage: bool = True,
        generator: torch.Generator | RandomState = None,
        dtype: torch.dtype = torch.float64,
        batch_size: int = 1024,
        on_step: OnStep | None = None,
    ) -> Unmasking:
        """Draw sequences, and tell how they were uncovered; :meth:`sample` gives them as what was fitted.

        Parameters
        ----------
        n : int, optional
            Sequences; default: as many as there are prompts or classes, or one.
        sampler : {"first_hitting", "ancestral"}
            See :mod:`lodim.discrete.masked_diffusion.samplers`.
        steps : int, optional
            Calls of the network for first hitting; default: one a place, which is exact. Steps of time for ancestral;
            default: 128.
        order : {1, 2}
            Of first hitting with fewer calls than places.
        prompt : optional
            What is known already, one for all or one a sequence, and stays as it is: rows of a frame with missing
            cells; texts that are gone on with, or lists of their tokens with None where free; without a vocabulary
            numbers with None, NaN or ``mask_id`` where free.
        temperature, top_p
            See :func:`lodim.nets.keep_likely`; anything but 1 and None samples another law.
        y : optional
            Classes, one for all or one a sequence.
        block_size : int, optional
            Uncover blocks of so many places from left to right; first hitting only.
        cache, two_stage, dtype
            See :func:`~lodim.discrete.masked_diffusion.samplers.ancestral`, which alone has the first two; ``dtype`` is
            that of the uniform numbers behind every draw, below float64 for studying the flaw.
        generator : torch.Generator, int or None
            A seed gives the same sequences again.
        batch_size : int
            Sequences uncovered together.
        on_step : callable, optional
            Called with the tokens after every step, batch by batch.

        Warns
        -----
        UserWarning
            More ``steps`` of first hitting than places; tokens in a prompt that training has never seen (of tables and
            of tokens with sizes of their own: at this place); no classes where training has always had them.
        """
        self._network()
        check_choice(sampler, SAMPLERS, "sampler")
        check_choice(order, (1, 2), "order")
        check_counts(batch_size=batch_size)
        for name, count in (("steps", steps), ("block_size", block_size)):
            if count is not None:
                check_counts(**{name: count})
        if not dtype.is_floating_point:
            raise ValueError(
                f"dtype is that of uniform numbers and must be a floating-point one, got {dtype}"
            )
        hitting = sampler == "first_hitting"
        if not hitting and (order != 1 or block_size is not None):
            raise ValueError("order and block_size are of first hitting; ancestral sampling has none")
        if hitting and not (cache and two_stage):
            raise ValueError("cache and two_stage are of ancestral sampling; first hitting has none")
        classes = 0 if y is None or np.ndim(y) == 0 else len(y)
        x = self._start(classes if n is None and prompt is None and classes else n, prompt)
        labels = self._classes(y, len(x))
        most = int((x == self.mask_id).sum(1).max()) if len(x) else 0
        if hitting and most and (steps or 0) > most:
            warn(f"steps={steps} is more than the {most} places to uncover; {most} are taken")
        options: dict[str, Any] = {"generator": torch_draws(generator), "dtype": dtype, "on_step": on_step}
        if temperature != 1 or top_p is not None:
            options["likely"] = partial(keep_likely, temperature=temperature, top_p=top_p)
        draw: Any
        if hitting:
            draw = partial(first_hitting, steps=steps, order=order, block_size=block_size, **options)
        else:
            options["cache"] = cache and (two_stage or not self.time_conditioning)
            draw = partial(ancestral, steps=steps or 128, two_stage=two_stage, **options)
        parts = []
        with evaluation_mode(self), torch.no_grad():
            for part, label in zip(
                x.split(batch_size), _split(labels, max(len(x), 1), batch_size), strict=True
            ):
                parts.append(draw(partial(self._answer, y=label), part, self.mask_id, self.schedule))
        tokens, ranks, times = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("tokens", "ranks", "times")
        )
        return Unmasking(tokens, ranks, times, max(part.nfe for part in parts))

    def sample(self, n: int | None = None, **options: Any) -> Any:
        """Draw sequences, as what the model was fitted to; options are those of :meth:`unmask`.

        Returns
        -------
        list of str, DataFrame, ndarray or Tensor
            Texts, a frame, or tokens: NumPy where the model was fitted to NumPy.
        """
        return self._decoded(self.unmask(n, **options).tokens, options.get("prompt"))

    @checked
    def impute(self, X: Any, y: Any = None, *, batch_size: int = 1024) -> Any:
        """Fill what is missing with the likeliest token of each place, given what the row has; nothing is drawn.

        Each gap is filled by itself, from one call of the network: several in a row need not go together as those of
        :meth:`sample` do, and the table is less varied than one without gaps.

        Parameters
        ----------
        X : as ``prompt`` of :meth:`unmask`
        y : optional
            Classes, one for all or one a row.

        Returns
        -------
        As of :meth:`sample`.
        """
        check_counts(batch_size=batch_size)
        x = self._prompts(X, "X")
        labels = self._classes(y, len(x))
        rows, own = x.split(batch_size), _split(labels, len(x), batch_size)
        with evaluation_mode(self), torch.no_grad():
            parts = [self.log_probs(part, y=label).argmax(-1) for part, label in zip(rows, own, strict=True)]
        return self._decoded(torch.cat(parts).cpu().numpy(), X)

    def _decoded(self, tokens: np.ndarray, prompt: Any) -> Any:
        """Tokens as what was fitted, with the row labels of a frame that was given."""
        if self.vocabulary is not None:
            labels = getattr(prompt, "index", ())
            own = isinstance(self.vocabulary, Columns) and len(labels) == len(tokens)
            return self.vocabulary.decode(tokens, **({"index": labels} if own else {}))
        return tokens if self._numpy else torch.from_numpy(tokens).to(self.sizes.device)

    def _answer(self, x: Tensor, share: Tensor, y: Tensor | None) -> Tensor:
        return self._logits(x, self.schedule.time(share) if self.time_conditioning else None, y)

    def _start(self, n: int | None, prompt: Any) -> Tensor:
        """Sequences to begin with: hidden but for the prompt."""
        if n is not None:
            n = int(check_in_range(n, "n", low=0, integer=True))
        if prompt is None:
            return torch.full((1 if n is None else n, self.length), self.mask_id, device=self.sizes.device)
        x = self._prompts(prompt, "prompt")
        if n is not None and len(x) not in (1, n):
            raise ValueError(f"n is {n}, but there are {len(x)} prompts; give one, or as many")
        return x.expand(len(x) if n is None else n, -1).clone() if len(x) == 1 else x

    def _prompts(self, X: Any, name: str) -> Tensor:
        """Rows with gaps as tokens; warns of what training has never seen."""
        x = self._encode(X, name, partial=True)
        given = x != self.mask_id
        places = torch.arange(self.length, device=x.device)
        seen = self.seen.any(0).expand_as(self.seen) if self._alike else self.seen
        unseen = given & ~seen[places, x.clamp(max=self.mask_id - 1)] & seen.any()
        if bool(unseen.any()):
            row, place = unseen.nonzero()[0].tolist()
            token = int(x[row, place])
            said = f"token {token}" if self.vocabulary is None else self.vocabulary.name_of(place, token)
            warn(
                f"{int(unseen.sum())} entries of {name} were never seen in training, the first, {said}, in row "
                f"{row} at place {place}: what goes with them was not learnt"
            )
        return x


AnyOrderAutoregressive = MaskedDiffusion
"""An any-order autoregressive model: the same bound, so the same class (arXiv 2409.02908, section 3)."""


class _TimeAverage(nn.Module):
    """The normalised geometric mean of a network's answers over the time, given how many places are hidden."""

    def __init__(self, model: MaskedDiffusion, n_quad: int) -> None:
        super().__init__()
        self.model, self.n_quad = model, n_quad

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        n = (x == self.model.mask_id).sum(1).clamp(min=1).cpu().numpy()
        quantiles = (np.arange(self.n_quad) + 0.5) / self.n_quad
        shares: Any = beta.ppf(quantiles, n[:, None], self.model.length - n[:, None] + 1)
        answers = (
            self.model._logits(
                x, self.model.schedule.time(torch.from_numpy(share).to(x.device)), y
            ).log_softmax(-1)
            for share in shares.T
        )
        return sum(answers, torch.zeros((), device=x.device)) / self.n_quad


def _patient(recipe: DescentRecipe) -> DescentRecipe:
    """The recipe with scores taken often, and the best weights kept; it runs to its end."""
    if recipe.patience:
        return recipe
    often = None if recipe.steps is None else max(1, recipe.steps // 100)
    return dataclasses.replace(recipe, patience=10**6, epoch_steps=recipe.epoch_steps or often)


def _split(labels: Tensor | None, n: int, size: int) -> Sequence[Tensor | None]:
    """The classes of parts of so many rows."""
    return [None] * -(-n // size) if labels is None else labels.split(size)
