r"""The probability of any subset of discrete variables in one call of a network: :class:`MarginalizationModel`.

A *partial* configuration :math:`x_S` says what the variables in S are, and nothing of the others, which are summed out;
at those the input holds the mask. Two networks read it:

* :math:`\theta`: one number, :math:`\log p_\theta(x_S)`, the answer to a query;
* :math:`\phi`: a law of every variable outside S given :math:`x_S`, which is a
  :class:`~lodim.discrete.MaskedDiffusion`; samples are drawn from it.

They are two towers, or two heads on one trunk. What ties them is the chain rule, for every order of the variables and
every step of it:

.. math::

    e = \log p_\theta(x_{o(<d)}) + \log p_\phi(x_{o(d)} \mid x_{o(<d)}) - \log p_\theta(x_{o(\le d)}), \qquad
    \log p_\theta(\text{nothing}) = 0.

With one random step a row, :math:`C = D\, \overline{e^2} + \log^2 p_\theta(\text{nothing})` is the *consistency* term.
It is all that is trained once :math:`\phi` has been fitted to data. Towards an unnormalised f, known by its logarithm,

.. math::

    L = \mathrm{KL}(p_\theta \,\|\, f / Z) + \lambda C, \qquad
    \nabla\, \mathrm{KL} = \mathrm{E}_{p_\theta}\, r\, \nabla \log p_\theta(x), \quad r = \log p_\theta(x) - \log f(x),

where x are states of a chain that block Gibbs steps with :math:`\phi` carry on; or, with ``objective="square"``, the
mean of :math:`(\log p_\theta(x) + \zeta - \log f(x))^2` over those and uniform states, in which :math:`\zeta` learns
log Z.

=========================  =================================================================
symbol in the paper        name here
=========================  =================================================================
:math:`\theta, \phi`       ``marginal_net``, ``conditional``
D, K                       ``length``, ``n_tokens``
"?", or 0                  ``mask_id``, which is K; None or NaN in what a person gives
:math:`\lambda`            ``lam``
M                          ``n_gibbs``
=========================  =================================================================

Source: S. Liu, P. Ramadge, R. Adams, 2023, arXiv 2310.12920, sections 3 and 4. Departures: the output's offset c is
that of independent variables (a term an observed variable) instead of one constant, so that an untrained model is
consistent already; r is centred by the mean of the *other* states and not divided by its deviation, which makes the
estimate that of KL's own gradient and leaves the balance with :math:`\lambda` alone; consistency towards an energy is
taken over uniform states too; steps are spread evenly over 1..D in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from lodim.discrete.masked_diffusion.model import MaskedDiffusion
from lodim.discrete.masking import (
    as_tokens,
    check_tokens,
    random_orders,
    ranks_along,
    stratified_counts,
    uniform,
)
from lodim.discrete.vocabulary import Columns, Vocabulary
from lodim.nets import ResidualMLP, keep_likely, sample_categorical
from lodim.nets.activations import evaluation_mode
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, build_seeded, derive_seed, root_seed, torch_draws, torch_generator
from lodim.results import Result
from lodim.validation import (
    check_choice,
    check_counts,
    check_in_range,
    check_numbers,
    check_tensor,
    checked,
    plain_array,
)

__all__ = ["ConsistencyReport", "MarginalizationModel"]

LogF = Callable[[Tensor], Any]
OBJECTIVES = ("kl", "square")
FLOOR = 50.0  # nats below the least finite log f at which a state that is impossible counts
ROWS = 4096  # of one call of a network


@dataclass(frozen=True)
class ConsistencyReport(Result):
    """How far one-call answers are from the chain rule, by the number of observed variables.

    Attributes
    ----------
    n_observed : int ndarray, shape (length,)
        1, 2, ..., after the step.
    error, se : ndarray, shape (length,)
        Mean absolute error e of one step, in nats, over rows and orders, and its standard error.
    drift : ndarray, shape (length,)
        Mean of the one-call answer less that of the chain along a random order, which takes one call a variable.
    nothing : float
        The log-probability of nothing observed, which should be 0.
    """

    n_observed: Int64[np.ndarray, " length"]
    error: Float[np.ndarray, " length"]
    se: Float[np.ndarray, " length"]
    drift: Float[np.ndarray, " length"]
    nothing: float

    def to_frame(self) -> Any:
        """Return a row a number of observed variables."""
        import pandas as pd

        names = ("n_observed", "error", "se", "drift")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def plot(self, ax: Any = None) -> Any:
        """Draw error and drift against the number of observed variables, and return the axes."""
        ax = new_axes(ax)
        for values, label, color in (
            (self.error, "|error| of one step", COLORS[0]),
            (self.drift, "one call less chain", COLORS[1]),
        ):
            ax.plot(self.n_observed, values, label=label, color=color)
        ax.fill_between(
            self.n_observed, self.error - 2 * self.se, self.error + 2 * self.se, color=COLORS[0], alpha=0.2,
            linewidth=0,
        )  # fmt: skip
        ax.axhline(0, color="0.6", linewidth=0.8)
        ax.set(xlabel="observed variables", ylabel="nats")
        ax.legend()
        return ax

    def __str__(self) -> str:
        worst = int(self.error.argmax())
        return (
            f"one step of the chain is off by {self.error.mean():.3g} nats on average, by {self.error[worst]:.3g} at "
            f"{self.n_observed[worst]} observed; one call less chain is {self.drift[-1]:+.3g} nats with all observed; "
            f"log p of nothing is {self.nothing:+.2g}"
        )


class _Head(nn.Module):
    """One number of what a trunk says: of a vector a sequence, or summed over a vector a place. It begins at 0."""

    def __init__(self, width: int, trunk: nn.Module | None = None) -> None:
        super().__init__()
        self.trunk = trunk
        self.hidden, self.out = nn.Linear(width, width), nn.Linear(width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        trunk: Any = self.trunk
        features = x if trunk is None else trunk.features(x)
        number = self.out(nn.functional.silu(self.hidden(features)))[..., 0]
        return number if number.ndim == 1 else number.sum(1)


@checked
class MarginalizationModel(nn.Module):
    """A model of D discrete variables that answers for any subset of them in one call.

    Parameters
    ----------
    vocabulary : int, sequence of int, Vocabulary or Columns, optional
        Tokens; tokens at each place; or what turns texts or frames into tokens. Default: that of ``conditional``.
    length : int, optional
        Number of variables, where the vocabulary does not say.
    marginal_net : nn.Module, optional
        A backbone of :mod:`lodim.nets.tokens`, to which a head is added, or any module that makes (n,) numbers of
        (n, length) tokens. Default: a :class:`~lodim.nets.ResidualMLP`.
    conditional : MaskedDiffusion, optional
        Fitted or not, without time and classes. Default: one on a :class:`~lodim.nets.ResidualMLP`.
    tie : bool
        Put the head on the trunk of ``conditional`` (whose backbone has ``features``) instead of on one of its own.
    offset : "auto" or float
        What is added to the network's answer: the log-probability of independent variables, uniform or, after
        :func:`fit_mle`, as frequent as in the data; or minus a constant, as in the paper.
    random_state : int, Generator or None
        Of the default networks' weights.

    Attributes
    ----------
    n_tokens, mask_id, length
        As of :class:`~lodim.discrete.MaskedDiffusion`; ``mask_id`` marks what is summed out.
    log_z : Parameter
        Estimate of log Z, trained with ``objective="square"`` only.

    Raises
    ------
    ValueError
        Neither a vocabulary nor a built ``conditional``, or both; ``tie`` with a ``marginal_net``, or with a trunk
        without ``features``; a ``conditional`` with time or classes.

    Examples
    --------
    >>> model = MarginalizationModel(2, 16, random_state=0)
    >>> partial = [[1, None, 0] + [None] * 13]  # of an untrained model
    >>> model.log_prob(partial).round(4)
    array([-1.3863], dtype=float32)
    """

    base: Tensor
    base_is_open: Tensor

    def __init__(
        self,
        vocabulary: int | Sequence[int] | Vocabulary | Columns | None = None,
        length: int | None = None,
        marginal_net: nn.Module | None = None,
        conditional: MaskedDiffusion | None = None,
        *,
        tie: bool = False,
        offset: str | float | int = "auto",
        random_state: RandomState = None,
    ) -> None:
        super().__init__()
        seed = root_seed(random_state)
        if conditional is None:
            if vocabulary is None:
                raise ValueError("give a vocabulary (and a length), or a conditional that has one")
            conditional = MaskedDiffusion(vocabulary, length, nn.Identity(), random_state=seed)
            conditional.backbone = self._network(conditional, None, derive_seed(seed, "conditional"))
        elif vocabulary is not None or length is not None:
            raise ValueError("conditional has a vocabulary and a length of its own; leave yours out")
        elif not hasattr(conditional, "n_tokens"):
            raise ValueError("conditional has no vocabulary yet: fit it first, or build it with one")
        elif conditional.time_conditioning or conditional.n_classes:
            raise ValueError("conditional must know neither time nor classes; build it without")
        self.conditional = conditional
        self.length, self.n_tokens = conditional.length, conditional.n_tokens
        self.mask_id, self.vocabulary = conditional.mask_id, conditional.vocabulary
        self.tie = tie
        if tie and marginal_net is not None:
            raise ValueError("tie=True puts the head on the conditional's trunk; leave marginal_net out")
        trunk: Any = conditional.backbone if tie else marginal_net
        if trunk is None:
            trunk = self._network(conditional, 1, derive_seed(seed, "marginal"))
        if hasattr(trunk, "features") and hasattr(trunk, "width"):
            head = build_seeded(lambda: _Head(trunk.width, None if tie else trunk), derive_seed(seed, "head"))
            self.marginal_net: nn.Module = head
        elif tie:
            raise ValueError(
                f"tie=True needs a trunk with features and width, which {type(trunk).__name__} has not"
            )
        else:
            self.marginal_net = trunk
        # what each token at each place adds to log p; the mask is the last one
        sizes = self.sizes.float()
        base = torch.zeros(self.length, self.n_tokens + 1)
        if isinstance(offset, str):
            check_choice(offset, ("auto",), "offset")
            base[:, :-1] = -sizes.log()[:, None]
        else:
            base[0] = -float(check_in_range(offset, "offset"))  # every configuration has one token at place 0
        self.register_buffer("base", base)
        self.register_buffer("base_is_open", torch.tensor(isinstance(offset, str)))  # to the first data
        self.log_z = nn.Parameter(sizes.log().sum())

    @staticmethod
    def _network(conditional: MaskedDiffusion, n_out: int | None, seed: int) -> ResidualMLP:
        """The default one, for so many numbers a place."""
        make = partial(ResidualMLP, conditional.n_tokens + 1, conditional.length, n_out)
        return build_seeded(make, seed)

    @property
    def sizes(self) -> Int64[Tensor, " length"]:
        """Tokens at each place."""
        return self.conditional.sizes

    # ------------------------------------------------------------------------------------------------ queries

    @checked
    @torch.no_grad()
    def log_prob(self, x: Any, observed: Any = None) -> Any:
        """Return the log-probability of partial configurations, in nats, in one call of the network.

        Parameters
        ----------
        x : Tensor, array or nested list, shape (n, length); or what the vocabulary encodes
            Tokens; None, NaN or ``mask_id`` where a variable is summed out.
        observed : bool array or Tensor, shape (n, length) or (length,), optional
            Where it is False the variable is summed out, whatever token ``x`` holds there; a frame of them beside a
            frame goes by its columns' names.

        Returns
        -------
        Tensor or ndarray, shape (n,)
            A tensor where ``x`` is one.

        Raises
        ------
        ValueError
            Another number of variables, tokens out of range, numbers that are not whole.
        """
        tokens, back = self._partial(x, observed)
        with evaluation_mode(self):
            return back(torch.cat([self._log_p(part) for part in tokens.split(ROWS)]))

    @checked
    @torch.no_grad()
    def log_conditional(self, x: Any, observed: Any = None) -> Any:
        """Return the log-probability of every token at every place given a partial one, shape (n, length, tokens).

        Arguments are those of :meth:`log_prob`; an observed variable has its own token for certain.
        """
        tokens, back = self._partial(x, observed)
        with evaluation_mode(self):
            return back(torch.cat([self.conditional.log_probs(part) for part in tokens.split(ROWS)]))

    @checked
    @torch.no_grad()
    def log_prob_orders(
        self,
        x: Any,
        observed: Any = None,
        *,
        n_orders: int = 5,
        generator: torch.Generator | RandomState = None,
    ) -> Any:
        """Return the same from the conditionals alone: the mean probability of chains along random orders.

        ``n_orders * length`` calls of the network, against which :meth:`log_prob` can be checked. Other arguments and
        the answer are as of :meth:`log_prob`.
        """
        check_counts(n_orders=n_orders)
        tokens, back = self._partial(x, observed)
        draws = torch_draws(generator)
        with evaluation_mode(self):
            chains = []
            for _ in range(n_orders):
                order = random_orders(torch.ones_like(tokens, dtype=torch.bool), draws)
                parts = zip(tokens.split(ROWS), order.split(ROWS), strict=True)
                chains.append(torch.cat([self.conditional.log_prob(*part) for part in parts]))
        return back(torch.stack(chains).logsumexp(0) - np.log(n_orders))

    def _partial(
        self, x: Any, observed: Any = None, name: str = "x", *, complete: bool = False
    ) -> tuple[Tensor, Callable[[Tensor], Any]]:
        """Tokens with the mask where summed out, and what brings an answer back as what came in."""
        kept = isinstance(x, Tensor)
        if self.vocabulary is None or self.are_tokens(x):
            tokens = as_tokens(x, self.mask_id, name)
        else:
            tokens = self.vocabulary.encode(x, partial=not complete)
        if isinstance(self.vocabulary, Columns) and hasattr(observed, "columns"):
            if set(observed.columns) != set(self.vocabulary.names):
                raise ValueError(
                    f"observed must have the columns {', '.join(map(repr, self.vocabulary.names))}"
                )
            observed = observed[list(self.vocabulary.names)]
        device = self.base.device
        tokens = hide(tokens.to(device), observed, self.mask_id)
        self._check(tokens, name, complete=complete)
        return tokens, (lambda found: found) if kept else (lambda found: found.cpu().numpy())

    def are_tokens(self, x: Any) -> bool:
        """Whether x is what a vocabulary encodes to: a tensor, or numbers beside a vocabulary of texts."""
        texts = not isinstance(self.vocabulary, Columns)
        return isinstance(x, Tensor) or (texts and isinstance(x, np.ndarray) and x.dtype.kind in "iuf")

    def _check(self, tokens: Tensor, name: str, *, complete: bool = False) -> Tensor:
        """Tokens as torch indexes with; no place may lack one, nor hold the mask where it must not."""
        check_tokens(tokens, self.sizes, self.mask_id, name)
        if complete and bool((tokens == self.mask_id).any()):
            raise ValueError(f"{name} must be complete, without the mask ({self.mask_id}), None or NaN")
        return tokens.to(self.base.device, torch.int64)

    def _log_p(self, tokens: Tensor, *, frozen: bool = False) -> Tensor:
        """log p of checked tokens, with a gradient; frozen: none to the conditionals' trunk."""
        read: Any = tokens
        if self.tie:
            trunk: Any = self.conditional.backbone
            with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
                read = trunk.features(tokens)
        found = self.marginal_net(read)
        if found.shape != (len(tokens),):
            raise ValueError(f"marginal_net must return shape ({len(tokens)},), got {tuple(found.shape)}")
        found = found.to(torch.promote_types(found.dtype, torch.float32))
        return found + self.base.gather(1, tokens.T).sum(0).to(found.dtype)

    # ------------------------------------------------------------------------------------------------ consistency

    @checked
    def consistency(
        self,
        x: Int[Tensor, "n length"],
        order: Int[Tensor, "*n length"] | None = None,
        d: Int[Tensor, " n"] | int | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, " n"]:
        """Return the squared error of one step of the chain for every row, with a gradient.

        Parameters
        ----------
        x : Tensor, shape (n, length)
            Complete.
        order : Tensor, shape (length,) or (n, length), optional
            Places in the order in which they become known; default: a random one a row.
        d : int or Tensor, optional
            The step, from 1 to ``length``: how many are known after it; default: spread evenly over a batch.
        """
        x = self._check(x, "x", complete=True)
        ranks, d = self._ranks(x, order, generator), self._steps(x, d, generator)
        return self._errors(x, ranks, d)[0].square()

    @checked
    @torch.no_grad()
    def consistency_report(self, x: Any, *, random_state: RandomState = 0) -> ConsistencyReport:
        """Return errors of the chain at every step for complete configurations, each along a random order.

        A few hundred rows of new data or of samples will do; each takes about ``3 * length`` rows of network calls.
        """
        tokens, _ = self._partial(x, complete=True)
        ranks = self._ranks(tokens, None, torch_generator(root_seed(random_state)))
        with evaluation_mode(self):
            nothing = float(self._log_p(torch.full_like(tokens[:1], self.mask_id)))
            steps = (self._steps(tokens, d, None) for d in range(1, self.length + 1))
            errors = torch.stack([self._errors(tokens, ranks, d)[0] for d in steps]).double().cpu().numpy()
        size = np.abs(errors)
        se = size.std(1, ddof=1) / np.sqrt(len(tokens)) if len(tokens) > 1 else np.full(len(size), np.nan)
        drift = nothing - errors.mean(1).cumsum()
        return ConsistencyReport(np.arange(1, self.length + 1), size.mean(1), se, drift, nothing)

    def _ranks(self, x: Tensor, order: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """The rank of each place: 0 becomes known first."""
        known = torch.ones_like(x, dtype=torch.bool)
        return random_orders(known, generator) if order is None else ranks_along(order, x)

    def _steps(self, x: Tensor, d: Tensor | int | None, generator: torch.Generator | None) -> Tensor:
        whole = torch.full((len(x),), self.length, device=x.device)
        if d is None:
            return stratified_counts(whole, generator)
        steps = torch.as_tensor(d, device=x.device).expand(len(x))
        if len(x) and not 1 <= int(steps.min()) <= int(steps.max()) <= self.length:
            raise ValueError(f"d must be steps from 1 to {self.length}, got {steps.unique().tolist()[:12]}")
        return steps

    def _errors(
        self, x: Tensor, ranks: Tensor, d: Tensor, *more: Tensor, frozen: bool = False
    ) -> tuple[Tensor, ...]:
        """The error of step d of every row, and log p of more configurations, all in one call of theta."""
        at = (d - 1)[:, None]
        before, after = x.masked_fill(ranks >= at, self.mask_id), x.masked_fill(ranks > at, self.mask_id)
        rows = (before, after, *more)
        first, then, *others = self._log_p(torch.cat(rows), frozen=frozen).split([len(part) for part in rows])
        place = (ranks == at).to(torch.int8).argmax(1)
        # frozen, they are what is asked of them later: without dropout
        mode = evaluation_mode(self.conditional) if frozen else nullcontext()
        with mode, torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            found = self.conditional.log_probs(before)[torch.arange(len(x), device=x.device), place]
            step = found.gather(1, x.gather(1, place[:, None]))[:, 0]
        return first + step - then, *others

    # ------------------------------------------------------------------------------------------------ training

    @checked
    def loss(
        self, x: Int[Tensor, "n length"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, ""]:
        """Return the consistency term C on complete configurations; the conditionals get no gradient."""
        x = self._check(x, "x", complete=True)
        ranks, d = self._ranks(x, None, generator), self._steps(x, None, generator)
        nothing = torch.full_like(x[:1], self.mask_id)
        return self._penalty(*self._errors(x, ranks, d, nothing, frozen=True))

    def _penalty(self, errors: Tensor, begin: Tensor) -> Tensor:
        return self.length * errors.square().mean() + begin.square().mean()

    @checked
    def energy_loss(
        self,
        log_f: LogF,
        state: Int[Tensor, "n length"],
        *,
        lam: float | int = 4.0,
        n_gibbs: int = 4,
        objective: str = "kl",
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, ""], Int64[Tensor, "n length"], dict[str, Tensor]]:
        """Carry the chain on, and return a loss towards f, the chain's new state and what else was seen.

        Parameters
        ----------
        log_f : callable
            Logarithm of the unnormalised target: (n,) numbers of (n, length) tokens. -inf counts as the least finite
            one of the batch less 50.
        state : Tensor, shape (n, length)
            Of the chain; :meth:`init_chain` begins one.
        n_gibbs : int
            Variables of each state that are erased and drawn anew, one after another.
        objective : {"kl", "square"}
            See the module.
        generator : torch.Generator, optional
            Default: torch's global one.

        Returns
        -------
        loss, state, info
            Of ``info``: "consistency", C; "free_energy", mean of log p - log f over the chain, which is -log Z plus the
            divergence.

        Raises
        ------
        ValueError
            NaN or +inf from ``log_f``, answers of another shape, -inf for a whole batch, or a single state with "kl".
        """
        check_choice(objective, OBJECTIVES, "objective")
        check_in_range(lam, "lam", low=0.0)
        if objective == "kl" and len(state) < 2:
            raise ValueError(
                "the gradient of kl takes two states or more, which are compared; or objective='square'"
            )
        state = self.gibbs(state, n_gibbs, generator)
        u = uniform(*state.shape, like=state, generator=generator)
        other = torch.minimum((u * self.sizes).long(), self.sizes - 1)
        both = torch.cat([state, other])
        asked = state if objective == "kl" else both
        energy = _floored(log_f, asked)
        nothing = torch.full_like(state[:1], self.mask_id)
        ranks, d = self._ranks(both, None, generator), self._steps(both, None, generator)
        errors, begin, log_p = self._errors(both, ranks, d, nothing, asked)
        gap = log_p - energy
        penalty = self._penalty(errors, begin)
        if objective == "kl":
            fit = kl_term(log_p, energy)
        else:
            fit = (gap + self.log_z).square().mean()
        own = gap[: len(state)].detach().mean()
        return fit + lam * penalty, state, {"consistency": penalty.detach(), "free_energy": own}

    # ------------------------------------------------------------------------------------------------ sampling

    @checked
    def init_chain(self, n: int, generator: torch.Generator | None = None) -> Int64[Tensor, "n length"]:
        """Begin a chain: n states drawn whole from the conditionals, each in a random order."""
        check_counts(n=n)
        x = torch.full((n, self.length), self.mask_id, device=self.base.device)
        return self._reveal(x, self._ranks(x, None, generator), generator)

    @checked
    def gibbs(
        self, x: Int[Tensor, "n length"], n_places: int = 4, generator: torch.Generator | None = None
    ) -> Int64[Tensor, "n length"]:
        """Return states after a step of block Gibbs: some random variables of each are erased and drawn anew in turn.

        It takes ``n_places`` calls, and leaves the conditionals' law as it is where they agree on one.
        """
        check_counts(n_places=n_places)
        x = self._check(x, "x", complete=True)
        ranks = self._ranks(x, None, generator)
        return self._reveal(x.masked_fill(ranks < n_places, self.mask_id), ranks, generator)

    @checked
    def sample(
        self,
        n: int | None = None,
        order: Int[Tensor, "*n length"] | None = None,
        *,
        x: Any = None,
        observed: Any = None,
        block_size: int = 1,
        temperature: float | int = 1.0,
        top_p: float | int | None = None,
        generator: torch.Generator | RandomState = None,
    ) -> Any:
        """Draw complete configurations, given what is observed.

        Parameters
        ----------
        n : int, optional
            Default: as many as ``x`` has rows, or one.
        order : Tensor, shape (length,) or (n, length), optional
            Places in the order in which they are drawn; default: a random one a row.
        x, observed
            As of :meth:`log_prob`, one row for all or one each; what is observed stays.
        block_size : int
            Variables drawn from one call, as if they were independent; 1 is exact.
        temperature, top_p
            See :func:`lodim.nets.keep_likely`.
        generator : torch.Generator, int or None
            A seed gives the same configurations again.

        Returns
        -------
        What the vocabulary decodes to; else a tensor or an array as ``x`` is one or, without it, what was fitted.
        """
        check_counts(block_size=block_size)
        n = None if n is None else int(check_in_range(n, "n", low=0, integer=True))
        if x is None:
            if observed is not None:
                raise ValueError("observed says what of x is known; give x too")
            tokens = torch.full((1 if n is None else n, self.length), self.mask_id, device=self.base.device)
        else:
            tokens, back = self._partial(x, observed)
            if n is not None and len(tokens) not in (1, n):
                raise ValueError(f"n is {n}, but x has {len(tokens)} rows; give one, or as many")
            tokens = tokens.expand(n, -1) if n is not None and len(tokens) == 1 else tokens
        draws = torch_draws(generator)
        ranks = self._ranks(tokens, order, draws)
        found = self._reveal(tokens, ranks, draws, block_size, temperature=temperature, top_p=top_p)
        if x is None or self.vocabulary is not None:
            return self.conditional._decoded(found.cpu().numpy(), x)
        return back(found)

    @torch.no_grad()
    def _reveal(
        self, x: Tensor, ranks: Tensor, generator: torch.Generator | None, block_size: int = 1, **likely: Any
    ) -> Tensor:
        """Draw the masked places of every row in the order of their ranks, so many from one call."""
        if len(x) > ROWS:
            parts = zip(x.split(ROWS), ranks.split(ROWS), strict=True)
            return torch.cat([self._reveal(*part, generator, block_size, **likely) for part in parts])
        free = x == self.mask_id
        turn = ranks.masked_fill(~free, 2 * self.length).argsort(1).argsort(1)
        most, x = int(free.sum(1).max()) if len(x) else 0, x.clone()
        with evaluation_mode(self):
            for first in range(0, most, block_size):
                due = free & (turn >= first) & (turn < first + block_size)
                rows = due.any(1)
                logits = self.conditional.log_probs(x[rows])[due[rows]]
                x[due] = sample_categorical(
                    keep_likely(logits, **likely) if likely else logits, generator=generator
                )
        return x


def kl_term(log_p: Float[Tensor, " n"], log_f: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Return a number whose gradient is an unbiased estimate of KL's at n > 1 draws of p: r less the others' mean."""
    r, n = (log_p - log_f).detach(), len(log_p)
    return (n / max(n - 1, 1) * (r - r.mean()) * log_p).mean()


def _floored(log_f: LogF, x: Tensor) -> Tensor:
    """The target's logarithm as finite numbers."""
    with torch.no_grad():
        found = log_f(x.clone())  # which it may write into
    if isinstance(found, Tensor):
        check_tensor(found, "what log_f returns")
    else:
        found = torch.from_numpy(check_numbers(found, "what log_f returns"))
    found = found.to(x.device)
    if found.shape != (len(x),):
        raise ValueError(f"log_f must return one number a row, shape ({len(x)},), got {tuple(found.shape)}")
    found = found.to(torch.promote_types(found.dtype, torch.float32))
    if bad := int((found.isnan() | (found == torch.inf)).sum()):
        raise ValueError(
            f"log_f returned NaN or +inf for {bad} of {len(x)} states; impossible states have -inf"
        )
    possible = found[found.isfinite()]
    if not len(possible):
        raise ValueError(f"log_f returned -inf for all {len(x)} states; there is nothing to go by")
    return torch.where(found.isfinite(), found, possible.min() - FLOOR)


def hide(tokens: Int64[Tensor, "n length"], observed: Any, mask_id: int) -> Int64[Tensor, "n length"]:
    """Return tokens with the mask where ``observed`` is False."""
    if observed is None:
        return tokens
    seen: Any = observed
    if isinstance(observed, Tensor):
        check_tensor(observed, "observed")
    else:
        seen = plain_array(observed, "observed").copy()
    shape, whole = tuple(seen.shape), tuple(tokens.shape)
    if seen.dtype not in (torch.bool, np.bool_) or shape not in (whole, whole[1:]):
        raise ValueError(
            f"observed must be true or false with shape {whole} or {whole[1:]}, got {seen.dtype} with {shape}"
        )
    return torch.where(torch.as_tensor(seen, device=tokens.device), tokens, mask_id)
