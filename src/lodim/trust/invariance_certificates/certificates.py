"""The measures of an environment, the bounds on the share of future ones, and the certificate that holds both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import gammaln
from scipy.stats import beta, binom

from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, as_generator
from lodim.results import Result
from lodim.trust.invariance_certificates.environments import (
    Rows,
    project,
    read_covariances,
    read_environments,
    with_target,
)
from lodim.validation import (
    check_choice,
    check_counts,
    check_in_range,
    check_matrix,
    check_numbers,
    checked,
    plain_array,
    warn,
)

__all__ = [
    "FORMS",
    "OVERFLOW",
    "InvarianceCertificate",
    "certify",
    "measure",
    "polynomial_dimension",
    "read_representation",
    "required_environments",
    "share_bound",
    "uniform_share_bound",
]

FORMS = {
    "gradient": "length of the gradient",
    "minimiser": "distance of w from the environment's own minimiser",
    "risk": "excess of the mean squared error over the environment's own minimum",
}
MODES = ("heldout", "learned")
MISS = 0.05  # how often the bound on one environment's measure, from its rows, may fail
# where the bootstrap is read for that: its percentiles are too short for skewed products of few rows
_TAKEN = 0.99
_FEW = 50  # rows below which even so it may fail more often
_BLOCK = 4_000_000  # bootstrapped moments held at a time
_GHOSTS = (1, 2, 4, 8, 16)  # sizes of the ghost sample, in units of m
_SINGULAR = 1e-10
OVERFLOW = "X, y or covariances are so large that products overflow; divide them by their scale"


# ---- measures


def deviations(
    cov: Float[np.ndarray, "*batch k1 k1"], w: Float[np.ndarray, " k"], form: str
) -> tuple[Float[np.ndarray, "*batch k"], bool]:
    """For each covariance of (Phi X, y) the vector whose length is the measure, or for risk its square root.

    The second answer is whether some G_e was singular, so that its pseudo-inverse was taken.
    """
    G, r = cov[..., :-1, :-1], cov[..., :-1, :-1] @ w - cov[..., :-1, -1]
    if form == "gradient":
        return r, False
    try:
        C = np.linalg.cholesky(G)
        pivots = np.diagonal(C, axis1=-2, axis2=-1) ** 2
        singular = bool((pivots <= _SINGULAR * np.diagonal(G, axis1=-2, axis2=-1)).any())
    except np.linalg.LinAlgError:
        singular = True
    if not singular and form == "minimiser":
        return np.linalg.solve(G, r[..., None])[..., 0], False
    if not singular:
        return np.linalg.solve(C, r[..., None])[..., 0], False
    values, vectors = np.linalg.eigh(G)
    kept = values > _SINGULAR * np.maximum(values[..., -1:], 0)
    power = np.where(kept, values, 1.0) ** (-1.0 if form == "minimiser" else -0.5)
    along = (vectors.swapaxes(-1, -2) @ r[..., None])[..., 0]
    return (vectors @ (np.where(kept, power, 0.0) * along)[..., None])[..., 0], True


def measure(vectors: Float[np.ndarray, "*batch k"], form: str) -> Float[np.ndarray, "*batch"]:
    """The measure whose vector this is."""
    squares = np.square(vectors).sum(-1)
    return squares if form == "risk" else np.sqrt(squares)


def read_representation(Phi: Any, n_columns: int) -> np.ndarray:
    """Check a representation; None takes all columns."""
    matrix = np.eye(n_columns) if Phi is None else check_matrix(Phi, name="Phi")
    if matrix.shape[1] != n_columns:
        raise ValueError(f"Phi must have {n_columns} columns, as X has; got shape {matrix.shape}")
    return matrix


def _read_head(Phi: Any, w: Any, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    matrix = read_representation(Phi, n_columns)
    head = np.atleast_1d(check_numbers(w, "w"))
    if head.shape != (len(matrix),) or not np.isfinite(head).all():
        raise ValueError(f"w must be {len(matrix)} finite numbers, one a row of Phi; got shape {head.shape}")
    return matrix, head


# ---- bounds


@checked
def polynomial_dimension(
    in_degrees: Sequence[int] | np.ndarray | None = None,
    *,
    n_columns: int | np.integer | None = None,
    form: str = "gradient",
    k: int | np.integer = 1,
    noise: bool = True,
    ordered: bool = True,
) -> int:
    """Return D, at least the VC dimension of the sets of environments in which a measure is at most eps.

    Parameters
    ----------
    in_degrees : sequence of int, optional
        For each intervened site (a bound on) how many parents it has.
    n_columns : int, optional
        Of X. Covariances alone make a space too, which needs no sites and no model: D grows like its fourth power.
    form : {"gradient", "minimiser", "risk"}
    k : int
        Rows of Phi, which D depends on but for the gradient.
    noise : bool
        Whether noise variances at the sites may change too; a site that is cut needs it.
    ordered : bool
        Whether the sites have one causal order in all environments. False counts monomials.
    """
    check_choice(form, tuple(FORMS), "form")
    check_counts(k=k)
    q = {"gradient": 2, "minimiser": 2 * int(k), "risk": int(k) + 1}[form]
    found = []
    if n_columns is not None:
        check_counts(n_columns=n_columns)
        n = int(n_columns)
        found.append(math.comb(n * (n + 1) // 2 + n + q, q))  # f = entries of covariances, and 1
    if in_degrees is not None:
        degrees = _read_degrees(in_degrees)
        powers = range(q + 1) if noise else range(1)
        found.append(math.prod(sum(math.comb(d + 2 * (q - j), d) for j in powers) for d in degrees))
        if ordered:
            f = 1
            for d in sorted(degrees):  # the order that makes f largest, as it need not be known
                f = (d + 1) * f + 1
            found.append(math.comb(f + q - 1, q))
    if not found:
        raise ValueError("give in_degrees, n_columns, or both")
    return min(found)


def _read_degrees(in_degrees: Any) -> list[int]:
    given = plain_array(in_degrees, "in_degrees")
    if given.ndim > 1 or not given.size:
        raise ValueError(f"in_degrees must be whole numbers, one a site, got {in_degrees!r}"[:200])
    degrees = [check_in_range(d, "in_degrees", low=0, integer=True) for d in np.atleast_1d(given).tolist()]
    return [int(d) for d in degrees]


def share_bound(violations: int, m: int, gamma: float) -> float:
    """Clopper and Pearson's upper bound on a share of which ``violations`` were seen in m independent draws."""
    # from above: 1 - gamma rounds, and a bound that is rounded down is none
    return 1.0 if violations >= m else float(beta.isf(gamma, violations + 1, m - violations))


def uniform_share_bound(violations: int, m: int, dimension: int, gamma: float) -> float:
    """The same for all sets of a class of VC dimension D at once: the bound of the package's text."""
    best = 1.0
    for ghost in (c * m for c in _GHOSTS):
        total = m + ghost
        growth = total * math.log(2)
        if dimension < total:
            growth = min(growth, dimension * math.log(math.e * total / dimension))
        room = math.log(gamma / 2) - growth
        low, high = -1, ghost + 1  # too few violations in the ghost, enough
        while high - low > 1:
            t = (low + high) // 2
            low, high = (low, t) if _log_split(violations, m, t, total) <= room else (t, high)
        best = min(best, high / ghost)
    return best


def _log_split(v: int, m: int, t: int, total: int) -> float:
    """Log probability that m of ``total``, of which t + v are marked, have at most v of the marked."""
    i = np.arange(v + 1)
    ways = np.logaddexp.reduce(_log_choose(t + v, i) + _log_choose(total - t - v, m - i))
    return float(ways - _log_choose(total, m))


def _log_choose(n: Any, k: Any) -> Any:
    return (
        gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    )  # of the impossible -inf, as gammaln has poles


@checked
def required_environments(
    delta: float | np.floating,
    gamma: float | np.floating = 0.05,
    *,
    mode: str = "heldout",
    violations: int | np.integer = 0,
    dimension: int | np.integer | None = None,
    sampled: bool = False,
) -> int:
    """Return how many environments a certificate of a given share needs.

    Parameters
    ----------
    delta : float
        Share of future environments in which eps may be exceeded, in (0, 1).
    gamma : float
        Probability that the certificate is wrong, in (0, 1).
    mode : {"heldout", "learned"}
        Whether (Phi, w) is chosen without these environments, or from them.
    violations : int
        How many of the environments are expected to exceed an eps that is given; 0 for ``eps=None``.
    dimension : int, optional
        D of :func:`polynomial_dimension`, for the learnt mode.
    sampled : bool
        Whether each environment is known by rows and not by its covariance.

    Raises
    ------
    ValueError
        A learnt mode without ``dimension``, or a share that no number of environments reaches.
    """
    _check_open(delta, "delta")
    _check_open(gamma, "gamma")
    check_choice(mode, MODES, "mode")
    v = int(check_in_range(violations, "violations", low=0, integer=True))
    if mode == "learned" and dimension is None:
        raise ValueError("the learnt mode needs dimension=polynomial_dimension(...)")
    D = None if dimension is None else int(check_in_range(dimension, "dimension", low=1, integer=True))
    if delta < 1e-9 or (D or 0) > 10**12 or v > 10**6:
        raise ValueError(
            "nothing is planned for a delta below 1e-9, a dimension above 1e12 or violations above 1e6"
        )
    if mode == "learned" and sampled and delta <= MISS:
        raise ValueError(
            f"from rows, the learnt mode reaches no delta below {MISS}: in that share of environments the bound on the "
            "measure may fail"
        )

    def enough(m: int) -> bool:
        return _both_bounds(v, m, float(gamma), D if mode == "learned" else None, sampled, v > 0)[0] <= float(
            delta
        )

    low, high = max(v, 1), 2 * max(v, 1)
    while not enough(high):
        low, high = high, 2 * high
        if high > 10**15:
            raise ValueError("so small a gamma or delta needs more than 1e15 environments")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _both_bounds(
    v: int, m: int, gamma: float, dimension: int | None, sampled: bool, eps_given: bool
) -> tuple[float, float]:
    """The bound of the mode (learnt where there is a dimension) and the held-out one; see :func:`certify`."""
    heldout = min(1.0, share_bound(v, m, gamma) / (1 - MISS if sampled else 1))
    if dimension is None:
        return heldout, heldout
    missed = int(binom.isf(gamma / 2, m, MISS)) if sampled else 0
    split = gamma / (2 if sampled else 1) / (m + 1 if eps_given else 1)
    learned = uniform_share_bound(v + missed, m, dimension, split) if v + missed < m else 1.0
    return max(learned, heldout), heldout


def _percent(bound: float) -> str:
    """Rounded up, as a bound that is rounded down is none."""
    return f"{math.ceil(bound * 1000) / 10:g}%"


def _check_open(value: Any, name: str) -> None:
    if not 0 < check_in_range(value, name, low=0, high=1) < 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value}")


# ---- the certificate


@dataclass(frozen=True)
class InvarianceCertificate(Result):
    """What share of future environments violates invariance, at most, and under which assumptions.

    Attributes
    ----------
    eps : float
        The tolerance that is certified: as given, or ``eps_upper``.
    eps_hat, eps_upper : float
        Largest measure of an environment: as estimated, and its upper bound (the same where covariances were given).
    eps_per_env, lower_per_env, upper_per_env : ndarray, shape (n_environments,)
        The measures and one-sided 95 % bounds, each environment for itself.
    violations : int
        Environments whose upper bound is above ``eps``.
    delta, delta_heldout : float
        Bound on the share in the mode asked for, and what it would be had (Phi, w) been chosen beforehand.
    dimension : int or None
        D of the learnt mode.
    assumptions : tuple of str
        All that the certificate rests on.
    """

    eps: float
    eps_hat: float
    eps_upper: float
    eps_per_env: np.ndarray
    lower_per_env: np.ndarray
    upper_per_env: np.ndarray
    violations: int
    delta: float
    delta_heldout: float
    gamma: float
    mode: str
    form: str
    n_environments: int
    names: tuple[str, ...]
    dimension: int | None
    assumptions: tuple[str, ...]

    @property
    def vacuous(self) -> bool:
        """Whether nothing is certified, delta being 1."""
        return self.delta >= 1

    def __str__(self) -> str:
        sure, how = f"{1 - self.gamma:.12g}", {"heldout": "held out", "learned": "learnt"}[self.mode]
        what = f"the {FORMS[self.form]} is above eps = {self.eps:.4g}"
        lines = [f"Certificate of invariance ({how}), from {self.n_environments} environments"]
        if self.vacuous:
            lines.append(f"VACUOUS: nothing is known about the share of new environments in which {what}.")
        else:
            lines.append(
                f"With probability {sure}, {what} in at most {_percent(self.delta)} of new environments of this family."
            )
        if self.mode == "learned":
            lines.append(
                f"Had Phi and w been chosen without these environments: {_percent(self.delta_heldout)}."
            )
        lines.append(
            f"Seen: {self.violations} of {self.n_environments} violate eps; the largest is {self.eps_hat:.4g}"
            f" (upper bound {self.eps_upper:.4g})."
        )
        return "\n".join([*lines, "It assumes:", *(f"- {each}" for each in self.assumptions)])

    def to_frame(self) -> pd.DataFrame:
        """Return the environments, one a row."""
        return pd.DataFrame(
            {
                "environment": self.names,
                "measure": self.eps_per_env,
                "lower": self.lower_per_env,
                "upper": self.upper_per_env,
                "violates": self.upper_per_env > self.eps,
            }
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw the measures with their intervals, smallest first, and eps."""
        ax, order = new_axes(ax), np.argsort(self.eps_per_env)
        low, middle, high = (
            part[order] for part in (self.lower_per_env, self.eps_per_env, self.upper_per_env)
        )
        ax.errorbar(
            np.arange(len(order)), middle, np.maximum([middle - low, high - middle], 0), fmt="o", color=COLORS[0]
        )  # fmt: skip
        ax.axhline(self.eps, color=COLORS[1], linestyle="--", label="eps")
        ax.set(
            xlabel="environment, sorted",
            ylabel=self.form,
            title=f"at most {_percent(self.delta)} of new environments are above eps",
        )
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend()
        return ax


@checked
def certify(
    Phi: Any,
    w: Any,
    environments: Any = None,
    *,
    covariances: Any = None,
    eps: float | int | np.floating | None = None,
    gamma: float | np.floating = 0.05,
    mode: str = "heldout",
    form: str = "gradient",
    sites: Sequence[Any] | np.ndarray | int | None = None,
    in_degrees: Sequence[int] | np.ndarray | int | None = None,
    n_bootstrap: int | np.integer = 200,
    random_state: RandomState = 0,
) -> InvarianceCertificate:
    r"""Bound the share of future environments in which a representation and its head are not invariant up to eps.

    **Means do not belong to the representation.** Rows are centred in their environment, so that each has an
    intercept of its own, and a change of level alone is no violation. To hold the intercept fixed as well, give
    second moments of (1, X, y) as ``covariances`` and let Phi keep the constant.

    **eps given** (before looking): violations of independent environments are binomial, and Clopper and Pearson's
    bound is exact. **eps=None** takes the largest measure seen, which depends on the environments; the certificate
    holds all the same. Let F be the distribution of g and q its smallest value with :math:`F(q) \ge 1 - \delta`. F is
    continuous from the right, so that :math:`1 - F(\max) > \delta` exactly where max < q, where all m are below q: a
    probability of :math:`\Pr[g < q]^m \le (1 - \delta)^m`. It is gamma at :math:`\delta = 1 - \gamma^{1/m}`, the
    bound without violations (Wilks's tolerance limit; conservative where F jumps).

    **From rows**, each environment's measure has an upper bound U, at 95 %, and what is counted is U > eps. U need
    not hold in all environments at once: :math:`\Pr[U > \epsilon] \ge \Pr[U \ge g, g > \epsilon] \ge 0.95 \Pr[g >
    \epsilon]`, so that the bound on the share of U > eps, divided by 0.95, is one on the share of g > eps. gamma is
    not split, and Pr[U >= g] of 0.9 in truth would raise delta by a nineteenth only. The same holds where eps is the
    largest U. Covered is the measure of the *environment* (as with endless rows), not of a sample of it. U is a
    percentile of the bootstrap over rows. At 95 % it would cover too little, as percentiles are too short for skewed
    products of few rows; it is read at 99 %, which covers 95 % from about 60 rows on. Near to invariance it errs to
    the large side, as noise makes a length longer.

    In the learnt mode Phi and w were chosen from the same rows, and a bootstrap at (Phi, w) would miss that. There
    :math:`U = \hat g + \Vert \Phi \Vert \sqrt{\Vert \Phi^T w \Vert^2 + 1}\, \tau`, where tau bounds the error of the
    whole covariance of (X, y) in operator norm, for all (Phi, w) alike; tau fails in so many of the m environments as
    a binomial of 0.05 has at 1 - gamma / 2, which are added to the violations, and the other half of gamma is the
    bound's.

    Parameters
    ----------
    Phi : array-like, shape (k, d), or None
        Representation; None takes all columns as they are.
    w : array-like, shape (k,)
        Head.
    environments : sequence of pairs (X, y), or mapping of names to pairs
        X of shape (n, d), y of shape (n,).
    covariances : array-like, shape (m, d + 1, d + 1), optional
        Instead: exact covariances of (X, y), y last.
    eps : float, optional
        Tolerance, in the unit of the measure. None: the largest one seen.
    gamma : float
        The certificate is wrong with probability at most gamma.
    mode : {"heldout", "learned"}
        Whether (Phi, w) was chosen without these environments, or from them.
    form : {"gradient", "minimiser", "risk"}
        The measure. Only the risk is the same for M Phi as for Phi.
    sites : sequence of int or str, int, optional
        Learnt mode: columns of X that are intervened on; or how many at most, where each environment may have other
        ones. None with ``in_degrees``: unknown, the same in all environments.
    in_degrees : sequence of int, or int with ``sites``, optional
        Bounds on the number of parents of each site, hidden ones and the constant of second moments counted. None: no
        model at all, D from the number of columns.
    n_bootstrap : int
        Resamples of the rows.
    random_state : int, Generator or None

    Raises
    ------
    ValueError
        Less than 2 environments, different columns, too few rows, the target among the sites, shapes that do not fit.

    Warns
    -----
    UserWarning
        A singular covariance of Phi X where the form needs its inverse: the pseudo-inverse is taken.
    """
    check_choice(mode, MODES, "mode")
    check_choice(form, tuple(FORMS), "form")
    _check_open(gamma, "gamma")
    check_in_range(n_bootstrap, "n_bootstrap", low=100, integer=True)
    if eps is not None and not 0 <= check_in_range(eps, "eps", low=0) < math.inf:
        raise ValueError(f"eps must be finite, got {eps}")
    if (environments is None) == (covariances is None):
        raise ValueError("give environments, pairs (X, y), or covariances, and not both")
    over = np.errstate(over="ignore", invalid="ignore")  # refused below
    if covariances is not None:
        cov = read_covariances(covariances)
        n_columns, names, columns = cov.shape[1] - 1, tuple(map(str, range(len(cov)))), None
        Phi, w = _read_head(Phi, w, n_columns)
        P = with_target(Phi)
        with over:
            vectors, singular = deviations(project(cov, P), w, form)
        lower = upper = found = measure(vectors, form)
    else:
        rows = read_environments(environments)
        n_columns, names, columns = rows.n_columns, rows.names, rows.columns
        Phi, w = _read_head(Phi, w, n_columns)
        if mode == "learned" and form != "gradient":
            raise ValueError(
                "from rows, the learnt mode has a bound for form='gradient' only; give covariances for another form"
            )
        with over:
            found, lower, upper, singular = _from_rows(
                rows, Phi, w, form, mode, int(n_bootstrap), as_generator(random_state)
            )
    if not np.isfinite(upper).all():
        raise ValueError(OVERFLOW)
    if singular:
        warn(
            "the covariance of Phi X is singular in an environment; its pseudo-inverse is taken, so that w is compared "
            "with the shortest of many minimisers. Drop rows of Phi that depend on each other",
        )
    D: int | None = None
    family: tuple[str, ...] = ()
    least_rows = None if covariances is not None else min(map(len, rows.X))
    if mode == "learned":
        D, family = _family_dimension(sites, in_degrees, n_columns, columns, form, len(Phi))
    elif in_degrees is not None or sites is not None:
        _site_columns(sites, n_columns, columns)  # of no use to this bound, but what is wrong is still said
    m, top = len(found), float(upper.max())
    limit = top if eps is None else float(eps)
    violations = int((upper > limit).sum())
    sampled = covariances is None
    delta, heldout = _both_bounds(violations, m, float(gamma), D, sampled, eps is not None)
    return InvarianceCertificate(
        limit, float(found.max()), top, found, lower, upper, violations, delta, heldout, float(gamma), mode, form, m,
        names, D, _assumptions(mode, eps is None, least_rows, family),
    )  # fmt: skip


def _assumptions(
    mode: str, eps_chosen: bool, least_rows: int | None, family: tuple[str, ...]
) -> tuple[str, ...]:
    said = ["the environments seen and the new ones are independent draws from one family"]
    if mode == "heldout":
        said.append("Phi and w were chosen without these environments (if not: mode='learned')")
    else:
        said.append("Phi and w may have been chosen from these environments, in any way")
    said.append(
        "eps is the largest value seen, as a tolerance limit" if eps_chosen else "eps was fixed beforehand"
    )
    if least_rows is not None:
        said.append(
            "rows of an environment are independent, and enough for the bootstrap; measures are of environments, "
            "not of samples"
        )
        if least_rows < _FEW:
            said.append(
                f"an environment has {least_rows} rows only, where its bound may fail more often than is counted"
            )
    else:
        said.append("the covariances are exact")
    said.append("what counts is the linear relation: slopes, not levels, for each environment is centred")
    if mode == "heldout":
        said.append("of graph and interventions nothing is assumed")
    return (*said, *family)


# ---- sites and their dimension


def _site_columns(sites: Any, n_columns: int, columns: tuple[str, ...] | None) -> int | None:
    """Check sites, and return how many there are."""
    if sites is None:
        return None
    if isinstance(sites, str):
        sites = [sites]
    if isinstance(sites, int | np.integer):
        count = int(check_in_range(sites, "sites", low=1, integer=True))
        if count > n_columns:
            raise ValueError(f"sites must be at most {n_columns}, as many as X has columns; got {count}")
        return count
    at = []
    for site in plain_array(sites, "sites", rows=True).tolist():
        if isinstance(site, str):
            if site not in (columns or ()):
                raise ValueError(f"sites has {site!r}, which is no column of X")
            at.append((columns or ()).index(site))
            continue
        at.append(int(check_in_range(site, "sites", low=0, integer=True)))
        if at[-1] == n_columns:
            raise ValueError(
                "the target is among the sites: where it is intervened on, nothing need be invariant"
            )
        if at[-1] > n_columns:
            raise ValueError(f"sites must be columns of X, below {n_columns}; got {site}")
    if not at or len(set(at)) < len(at):
        raise ValueError("sites must be different columns of X, one at least")
    return len(at)


def _family_dimension(
    sites: Any, in_degrees: Any, n_columns: int, columns: tuple[str, ...] | None, form: str, k: int
) -> tuple[int, tuple[str, ...]]:
    """D of the family of environments, and the assumptions that make it so."""
    count = _site_columns(sites, n_columns, columns)
    if in_degrees is None:
        if count is not None:
            raise ValueError(
                "the learnt mode needs in_degrees with sites: a bound on the number of parents of each"
            )
        D = polynomial_dimension(n_columns=n_columns, form=form, k=k)
        return D, (
            f"of graph and interventions nothing is assumed, so that D = {D} comes from {n_columns} columns",
        )
    varying = isinstance(sites, int | np.integer)
    degrees = _read_degrees(in_degrees)
    if np.ndim(in_degrees) == 0:
        if count is None:
            raise ValueError(
                f"in_degrees={in_degrees} does not say how many sites there are; give one bound a site, or sites"
            )
        degrees = degrees * count
    elif varying:
        raise ValueError("in_degrees must be one bound for all sites where sites is their number")
    elif count is not None and len(degrees) != count:
        raise ValueError(f"in_degrees must have one entry a site, {count}; got {len(degrees)}")
    D = polynomial_dimension(degrees, form=form, k=k)
    said = "the environments are interventions on a linear structural equation model without cycles, not on the target"
    who = (
        f"at {sites!r}, the same in all"
        if count is not None and not varying
        else f"at the same {len(degrees)} site(s) in all, whichever they are"
    )
    if varying:
        pieces = math.comb(n_columns, len(degrees))
        D, who = (
            D * pieces,
            f"at {len(degrees)} or fewer of {n_columns} sites, which may differ ({pieces} sets)",
        )
    D = min(D, polynomial_dimension(n_columns=n_columns, form=form, k=k))
    if form != "gradient":
        said += "; the covariance of Phi X is never singular"
    return D, (said, f"they act {who}, with in-degrees of at most {degrees}, so that D = {D}")


# ---- environments known by rows


def _from_rows(
    rows: Rows,
    Phi: np.ndarray,
    w: np.ndarray,
    form: str,
    mode: str,
    n_bootstrap: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """The measures and their lower and upper bounds, each at 95 %; and whether a pseudo-inverse was taken."""
    P = with_target(Phi)
    taken = P if mode == "heldout" else np.eye(P.shape[1])
    least = len(taken) + 1
    found, lower, upper = (np.empty(len(rows.X)) for _ in range(3))
    size, singular = np.linalg.norm(Phi, 2) * math.sqrt(np.square(Phi.T @ w).sum() + 1), False
    for at, cov, drawn in _bootstrap(rows, taken, least, n_bootstrap, rng):
        own = cov if mode == "heldout" else project(cov, P)
        vectors, one = deviations(own, w, form)
        found[at], singular = measure(vectors, form), singular or one
        if mode == "learned":
            error = np.abs(np.linalg.eigvalsh(drawn - cov[:, None])).max(-1)
            tau = size * np.quantile(error, _TAKEN, axis=1)
            lower[at], upper[at] = np.maximum(found[at] - tau, 0), found[at] + tau
            continue
        again, one = deviations(drawn, w, form)
        singular = singular or one
        upper[at] = np.quantile(measure(again, form), _TAKEN, axis=1)
        # a length differs from another by at most the length between
        apart = np.quantile(np.sqrt(np.square(again - vectors[:, None]).sum(-1)), _TAKEN, axis=1)
        near = 0 * apart if singular else np.maximum(np.sqrt(np.square(vectors).sum(-1)) - apart, 0)
        lower[at] = near**2 if form == "risk" else near
    return found, lower, np.maximum(upper, found), singular


def _bootstrap(
    rows: Rows, taken: np.ndarray, least: int, n_bootstrap: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Numbers of environments with as many rows, their covariances, and those of ``n_bootstrap`` resamples.

    Environments of one size share the resamples' weights, which do not depend on the data, so that one product does for
    all; given the weights, the bounds of different environments are independent still.
    """
    sizes = np.array([len(X) for X in rows.X])
    if (few := sizes < least).any():
        raise ValueError(
            f"environment {rows.names[few.argmax()]} has {sizes[few.argmax()]} rows where at least {least} are needed "
            "for its covariance; leave it out, or merge it with another"
        )
    width = len(taken)
    for n in np.unique(sizes):
        counts = np.empty((n_bootstrap, n), np.uint16)
        for each in counts:
            each[:] = rng.multinomial(n, np.full(n, 1 / n))
        alike = np.flatnonzero(sizes == n)
        step = max(1, _BLOCK // (width**2 * max(n_bootstrap, n)))
        for start in range(0, len(alike), step):
            at = alike[start : start + step]
            Z = np.stack([np.column_stack([rows.X[i], rows.y[i]]) for i in at])
            Z = (Z - Z.mean(1, keepdims=True)) @ taken.T
            mean, drawn = (
                np.zeros((len(at), n_bootstrap, width)),
                np.zeros((len(at), n_bootstrap, width, width)),
            )
            many = max(1, _BLOCK // width**2)
            for part in (slice(low, low + many) for low in range(0, n, many)):
                weights, some = counts[:, part] / n, Z[:, part]
                mean += weights @ some
                products = (some[..., :, None] * some[..., None, :]).reshape(*some.shape[:2], -1)
                drawn += (weights @ products).reshape(drawn.shape)
            drawn -= mean[..., :, None] * mean[..., None, :]
            if not np.isfinite(drawn).all():
                raise ValueError(OVERFLOW)
            yield at, Z.swapaxes(1, 2) @ Z / n, drawn
