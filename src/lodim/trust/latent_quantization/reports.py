"""How much accuracy is left under attack, and how far that figure can be trusted: :func:`robust_accuracy`,
:func:`robustness_report`.

An accuracy under attack is an upper bound: a stronger attack may leave less. Figures are therefore those of the worst
of several attacks on each sample, and signs that gradients are masked (Athalye and others 2018, arXiv 1802.00420) are
warnings of the result: an attack without gradients beats those with; accuracy is left where any change is allowed;
the gradient is zero.

===================== ======================================================================================
threat model          the adversary
===================== ======================================================================================
none                  there is none
random noise          does not look: control for all others
static grey-box       knows the classifier, not the defence (the setting of the paper's tables)
black-box transfer    attacks a substitute of its own
score-based search    asks the defended model for probabilities
adaptive white-box    knows everything, and sends its gradient through the defence
===================== ======================================================================================
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lodim.linalg.precision import as_tensor
from lodim.metrics import wilson_interval
from lodim.nets import mlp
from lodim.nets.activations import batches_of, evaluation_mode, model_device
from lodim.nets.attacks import answer_of, check_bounds, check_classes, fgsm, losses_of, norm_of, pgd, uphill
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, build_seeded, derive_seed, forked_torch_rng, root_seed
from lodim.results import Result
from lodim.training import DescentRecipe, DescentResult, descend
from lodim.trust.black_boxes import BlackBox, read_black_box
from lodim.trust.latent_quantization.attacks import (
    Bounds,
    Norm,
    Number,
    bpda,
    class_numbers,
    is_random,
    random_noise,
    random_search,
    straight_through,
    transfer,
)
from lodim.validation import check_choice, check_counts, check_in_range, check_matrix, check_numbers, checked

__all__ = [
    "RobustAccuracy", "RobustnessReport", "adversarial_training", "benchmark_classifier", "defend", "robust_accuracy",
    "robustness_report",
]  # fmt: skip

THREATS = (
    "none", "random noise", "static grey-box", "black-box transfer", "score-based search", "adaptive white-box"
)  # fmt: skip
_BATCH = 256
_FEW = 0.01  # share of samples below which a difference between attacks is no sign
_UNBOUNDED = 0.05  # accuracy that may be left where any change is allowed
_TINY = 1e-3  # share of the range of X below which a size is likely meant for another scale
Hits = Bool[np.ndarray, " n"]


# ---- one classifier


@dataclass(frozen=True)
class RobustAccuracy(Result):
    """Accuracy under attacks of growing size.

    Attributes
    ----------
    eps : tuple of float
        Sizes, ascending.
    clean : float
    accuracy : tuple of float
        Share of samples right under every attack that applies, noise and smaller sizes included: an upper bound of the
        true worst case.
    intervals : tuple of (float, float)
        Wilson's, of sampling alone.
    noise : tuple of float
        Under random changes of the same size.
    attacks : dict of str to tuple of float
        Accuracy under each attack alone.
    warnings : tuple of str
        Why the figures may be too high.
    adaptive : bool
        Whether gradients were followed through the whole model; otherwise only searches were possible.
    norm : {"inf", "2"}
    """

    eps: tuple[float, ...]
    clean: float
    accuracy: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    noise: tuple[float, ...]
    attacks: dict[str, tuple[float, ...]]
    n_samples: int
    warnings: tuple[str, ...]
    adaptive: bool
    norm: str

    def to_frame(self) -> Any:
        """Return one row an ``eps``: eps, accuracy, low, high, noise, and a column an attack."""
        import pandas as pd

        low, high = zip(*self.intervals)
        table = {"eps": self.eps, "accuracy": self.accuracy, "low": low, "high": high, "noise": self.noise}
        return pd.DataFrame({**table, **self.attacks})

    def plot(self, ax: Any = None) -> Any:
        """Draw accuracy over ``eps`` with its intervals, beside that under noise, and return the axes."""
        ax, frame = new_axes(ax), self.to_frame()
        ax.plot(frame.eps, frame.accuracy, marker="o", color=COLORS[0], label="worst of all attacks")
        ax.fill_between(frame.eps, frame.low, frame.high, color=COLORS[0], alpha=0.15, linewidth=0)
        ax.plot(frame.eps, frame.noise, marker="o", color=COLORS[1], label="random noise")
        ax.axhline(self.clean, color=COLORS[6], linestyle="--", label="no attack")
        ax.set(xlabel=f"size of the change ({_norm_in_words(self.norm)})", ylabel="accuracy", ylim=(0, 1.02))
        ax.legend()
        return ax

    def __str__(self) -> str:
        lines = [f"accuracy {self.clean:.3f} on {self.n_samples:,} samples; at most, under attack:"]
        for i, (e, a, (low, high)) in enumerate(zip(self.eps, self.accuracy, self.intervals)):
            each = ", ".join(f"{name} {values[i]:.3f}" for name, values in self.attacks.items())
            lines.append(f"  {e:.4g}: {a:.3f} ({low:.3f} to {high:.3f}); {each}; noise {self.noise[i]:.3f}")
        return "\n".join([*lines, *(f"  warning: {text}" for text in self.warnings)])


@checked
def robust_accuracy(
    model: Any,
    X: Any,
    y: Any,
    eps: Any,
    *,
    norm: Norm = "inf",
    bounds: Bounds = None,
    steps: int | np.integer = 20,
    n_restarts: int | np.integer = 2,
    n_eot: int | np.integer = 1,
    n_queries: int | np.integer = 200,
    classes: Any = None,
    random_state: RandomState = 0,
) -> RobustAccuracy:
    """Measure any classifier's accuracy under the attacks that its kind allows.

    Parameters
    ----------
    model : nn.Module, classifier or callable
        A module is attacked along its gradient (cross-entropy, then margin, through what offers a straight-through
        gradient) and by search; a fitted classifier of scikit-learn or a function that returns probabilities by search
        only, which the result says.
    X : array-like, data frame or Tensor, shape (n, ...)
        Inputs as the model takes them.
    y : array-like, shape (n,)
        Labels among the model's classes.
    eps : float or array-like of float
        Sizes of changes, in the unit of ``X``.
    norm : {"inf", 2}
        Largest change of an entry, or Euclidean.
    bounds : (float, float), optional
        Values that an entry can take.
    steps, n_restarts : int
        Of projected gradient steps, for each loss.
    n_eot : int
        Passes that are averaged where two passes of a module differ; its answer is the mean of their probabilities.
    n_queries : int
        Answers a sample that the search may ask for.
    classes : array-like, optional
        Labels in the order of the model's columns, where it does not name them.
    random_state : int, Generator or None

    Raises
    ------
    ValueError
        Bad sizes, labels that are no classes, inputs outside the bounds, answers that are no probabilities.
    TypeError
        No classifier.

    Examples
    --------
    >>> import torch
    >>> from lodim.trust import robust_accuracy
    >>> line = torch.nn.Linear(1, 1)
    >>> _ = torch.nn.init.ones_(line.weight), torch.nn.init.zeros_(line.bias)
    >>> robust_accuracy(line, [[-3.0], [-1.0], [1.0], [3.0]], [0, 0, 1, 1], [0.5, 2.0], random_state=0).accuracy
    (1.0, 0.5)
    """
    sizes = _sizes(eps)
    for name, count in (
        ("steps", steps),
        ("n_restarts", n_restarts),
        ("n_eot", n_eot),
        ("n_queries", n_queries),
    ):
        check_in_range(count, name, low=1, integer=True)
    p, seed = norm_of(norm), root_seed(random_state)
    target = _Target.read(model, X, y, classes, bounds, int(n_eot), seed)
    settings: dict[str, Any] = {"norm": p, "bounds": bounds}
    clean = target.right(target.rows)
    hits: dict[str, list[Hits]] = {"gradient": [], "search": [], "noise": []}
    before = dict.fromkeys(hits, clean)
    for size in sizes:
        noisy = random_noise(target.rows, size, random_state=derive_seed(seed, "noise", size), **settings)
        found = {"noise": target.right(noisy)}
        found["search"] = before["search"] & target.by_search(
            before["search"],
            size,
            n_queries=n_queries,
            random_state=derive_seed(seed, "search", size),
            **settings,
        )
        if target.net is not None:
            found["gradient"] = before["gradient"] & target.by_gradient(
                before["gradient"], size, steps=steps, n_restarts=n_restarts,
                random_state=derive_seed(seed, "gradient", size), **settings,
            )  # fmt: skip
        for name, kept in found.items():
            hits[name].append(kept)
            before[name] = kept
    warnings = list(target.doubts(sizes[-1], bounds, p, steps, seed))
    if hits["gradient"]:
        missed = max(float((g & ~s).mean()) for g, s in zip(hits["gradient"], hits["search"]))
        if missed > _FEW:
            warnings.append(
                f"the search without gradients breaks {missed:.1%} of the samples that the gradient does not: "
                "gradients are masked, and a better attack leaves less"
            )
    worst, so_far = [], clean
    for i in range(len(sizes)):
        for rows in hits.values():
            so_far = so_far & rows[i] if rows else so_far
        worst.append(so_far)
    return RobustAccuracy(
        tuple(sizes),
        float(clean.mean()),
        tuple(float(rows.mean()) for rows in worst),
        tuple(wilson_interval(rows.sum(), len(rows)) for rows in worst),
        tuple(float(rows.mean()) for rows in hits["noise"]),
        {n: tuple(float(r.mean()) for r in hits[n]) for n in ("gradient", "search") if hits[n]},
        len(clean),
        tuple(warnings),
        target.net is not None,
        "inf" if p == math.inf else "2",
    )


class _Logits(nn.Module):
    """A module that returns probabilities, with their logarithms as logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        p = answer_of(self.model, x)
        return p.clamp(min=torch.finfo(p.dtype).tiny).log()


@dataclass(frozen=True)
class _Target:
    """A classifier under attack: as a function of rows, and as a net where it has gradients."""

    box: BlackBox
    net: nn.Module | None
    rows: Tensor
    labels: Tensor
    ask: Callable[[Any], np.ndarray]
    passes: int
    random: bool

    @classmethod
    def read(cls, model: Any, X: Any, y: Any, classes: Any, bounds: Bounds, n_eot: int, seed: int) -> _Target:
        if isinstance(model, nn.Module):
            dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
            rows = as_tensor(check_matrix(X) if hasattr(X, "columns") else X, "X").detach()
            rows = _finite(rows).to(model_device(model), dtype)
            with forked_torch_rng(seed, rows.device):
                box = read_black_box(model, rows, classes=classes)
        else:
            box = read_black_box(model, X, classes=classes)
            rows = as_tensor(check_matrix(X) if hasattr(X, "columns") else X, "X").detach()
        net = _Logits(model) if box.is_probability else box.module
        check_bounds(_finite(rows), bounds)
        labels = torch.from_numpy(box.class_numbers(y, len(rows)))
        if net is None:

            def ask(asked: Tensor) -> np.ndarray:
                given: Any = asked if isinstance(X, Tensor) else asked.numpy()
                if hasattr(X, "columns"):
                    given = type(X)(given, columns=X.columns)
                return box.predict_proba(given)

            return cls(box, None, rows, labels, ask, 1, False)
        with evaluation_mode(net), forked_torch_rng(derive_seed(seed, "two passes"), rows.device):
            random = is_random(net, rows[:_BATCH])
        passes = n_eot if random else 1

        def ask_net(asked: Tensor) -> np.ndarray:
            asked = asked.to(rows)
            # the same chances at every visit, for a random model too
            with forked_torch_rng(derive_seed(seed, "passes"), rows.device):
                return np.mean([box.predict_proba(asked) for _ in range(passes)], axis=0)

        return cls(box, net, rows, labels.to(rows.device), ask_net, passes, random)

    def right(self, x: Tensor) -> Hits:
        """Which rows have their label as the most probable class."""
        found = [self.ask(part).argmax(1) for part in batches_of(x, _BATCH)]
        return np.concatenate(found) == self.labels.cpu().numpy()

    def by_search(self, alive: Hits, size: float, **settings: Any) -> Hits:
        """Which rows are right after the search; only those alive are attacked."""
        return self._after(
            alive, lambda x, t, s: random_search(self.ask, x, t, size, **{**settings, "random_state": s}),
            settings["random_state"],
        )  # fmt: skip

    def by_gradient(self, alive: Hits, size: float, **settings: Any) -> Hits:
        """Which are after projected gradient steps, on the cross-entropy and then on the margin."""
        assert self.net is not None
        net = self.net
        for loss in ("cross_entropy", "margin"):

            def attack(x: Tensor, t: Tensor, s: int, loss: str = loss) -> Tensor:
                with evaluation_mode(net), forked_torch_rng(s, x.device):
                    return bpda(
                        net, x, t, size, loss=loss, n_eot=self.passes, **{**settings, "random_state": s}
                    )

            alive = self._after(alive, attack, derive_seed(settings["random_state"], loss))
        return alive

    def _after(self, alive: Hits, attack: Callable[[Tensor, Tensor, int], Tensor], seed: int) -> Hits:
        alive = alive.copy()
        rows = np.flatnonzero(alive)
        for part in batches_of(rows, _BATCH):
            x, t = self.rows[part], self.labels[part]
            moved = attack(x, t, derive_seed(seed, int(part[0])))
            alive[part] = self.ask(moved).argmax(1) == t.cpu().numpy()
        return alive

    def doubts(
        self, size: float, bounds: Bounds, p: float, steps: int | np.integer, seed: int
    ) -> Iterable[str]:
        """Signs that attacks on this model, of at most this size, say little."""
        span = float(self.rows.max()) - float(self.rows.min())
        if 0 < size < _TINY * span:
            yield (
                f"eps {size:.3g} is next to nothing for X, which spans {span:.3g}: is it on the scale of X, and "
                "are all columns on one?"
            )
        if self.net is None:
            yield (
                "the model is a function without gradients: only searches were possible, and a gradient attack (of the "
                "model, or of a copy of it) may leave less"
            )
            return
        if self.random and self.passes == 1:
            yield "the model answers by chance: give n_eot above 1, or its gradients are noise"
        x, t = self.rows[:_BATCH], self.labels[:_BATCH]
        with evaluation_mode(self.net), straight_through(self.net), forked_torch_rng(seed, x.device):
            slope, _, _ = uphill(self.net, x, t, "margin", self.passes)
        flat = float((slope.flatten(1) == 0).all(1).double().mean())
        if flat > _FEW:
            yield f"the gradient is zero at {flat:.0%} of the samples: there is nothing that an attack could follow"
        left = self.unbounded(bounds, p, steps, seed)
        if left > _UNBOUNDED and len(set(self.ask(x).argmax(1))) == 1:
            yield "the model answers one class: there may be nothing that an attack could find"
        elif left > _UNBOUNDED:
            yield (
                f"accuracy is {left:.2f} where any change is allowed, which should leave next to nothing: the gradient "
                "attack fails, not the adversary"
            )

    def unbounded(self, bounds: Bounds, p: float, steps: int | np.integer, seed: int) -> float:
        """Accuracy under gradient steps that may go anywhere."""
        low, high = (float(self.rows.min()), float(self.rows.max())) if bounds is None else map(float, bounds)
        reach = max(high - low, 1e-6) * (1 if bounds is not None else 10)
        size = reach if p == math.inf else reach * math.sqrt(self.rows[0].numel())
        few = np.arange(len(self.rows)) < _BATCH
        alive = self.by_gradient(
            few, size, norm=p, bounds=bounds, steps=steps, n_restarts=1, random_state=derive_seed(seed, "unbounded")
        )  # fmt: skip
        return float(alive.sum() / few.sum())


# ---- several defences


@dataclass(frozen=True)
class RobustnessReport(Result):
    """Accuracy of several defences under several threat models.

    Attributes
    ----------
    threats, defences : tuple of str
        Names of the rows and columns of what follows; the first defence is none.
    accuracy : ndarray, shape (threats, defences)
    intervals : ndarray, shape (threats, defences, 2)
        Wilson's, of sampling alone.
    worst : dict of str to float
        Share of samples right under every threat: an upper bound of a defence's robustness.
    eps, norm : float, str
    n_samples : int
    warnings : tuple of str
        Signs of masked gradients.
    """

    threats: tuple[str, ...]
    defences: tuple[str, ...]
    accuracy: Float[np.ndarray, "threats defences"]
    intervals: Float[np.ndarray, "threats defences 2"]
    worst: dict[str, float]
    eps: float
    norm: str
    n_samples: int
    warnings: tuple[str, ...]

    def to_frame(self) -> Any:
        """Return one row a threat, one column a defence; the last row is the worst, sample by sample."""
        import pandas as pd

        frame = pd.DataFrame(self.accuracy, index=list(self.threats), columns=list(self.defences))
        frame.loc["worst of all"] = [self.worst[name] for name in self.defences]
        return frame

    def plot(self, ax: Any = None) -> Any:
        """Draw a group of bars for every threat, a bar a defence, with intervals; return the axes."""
        ax = new_axes(ax)
        wide, places = 0.8 / len(self.defences), np.arange(len(self.threats))
        for i, name in enumerate(self.defences):
            values, spread = self.accuracy[:, i], self.intervals[:, i]
            at = places + (i - (len(self.defences) - 1) / 2) * wide
            error = np.abs(np.c_[values - spread[:, 0], spread[:, 1] - values].T)
            ax.bar(
                at, values, wide, yerr=error, color=COLORS[i % len(COLORS)], label=name, error_kw={"lw": 0.8}
            )
        ax.set_xticks(places, [threat.replace(" ", "\n", 1) for threat in self.threats])
        ax.set(ylabel=f"accuracy at {self.eps:.3g} ({_norm_in_words(self.norm)})", ylim=(0, 1.02))
        ax.legend()
        return ax

    def __str__(self) -> str:
        head = f"accuracy on {self.n_samples:,} samples at {self.eps:.4g} ({_norm_in_words(self.norm)}), at most:"
        table = self.to_frame().to_string(float_format="{:.3f}".format)
        return "\n".join([head, table, *(f"warning: {text}" for text in self.warnings)])


@checked
def robustness_report(
    classifier: nn.Module,
    defences: Mapping[str, nn.Module],
    X: Any,
    y: Any,
    *,
    eps: Number,
    norm: Norm = "inf",
    steps: int | np.integer = 20,
    n_restarts: int | np.integer = 2,
    n_eot: int | np.integer = 1,
    n_queries: int | np.integer = 200,
    bounds: Bounds = (0, 1),
    substitute: nn.Module | None = None,
    random_state: RandomState = 0,
) -> RobustnessReport:
    """Compare defences under every threat model, never only under that which they were built for.

    Parameters
    ----------
    classifier : nn.Module
        Without a defence: the first column, and what the static attack is made against.
    defences : mapping of str to nn.Module
        Defended classifiers, such as :func:`defend` returns or :func:`adversarial_training` leaves.
    X : array-like or Tensor, shape (n, ...)
    y : array-like, shape (n,)
        Class numbers.
    eps : float
    norm, bounds, steps, n_restarts, n_eot, n_queries
        As in :func:`robust_accuracy`.
    substitute : nn.Module, optional
        The transferring adversary's model. Without one a small net is trained on these rows and the classifier's
        answers to them.
    random_state : int, Generator or None
    """
    p, seed, size = norm_of(norm), root_seed(random_state), float(check_in_range(eps, "eps", low=0))
    for name, count in (
        ("steps", steps),
        ("n_restarts", n_restarts),
        ("n_eot", n_eot),
        ("n_queries", n_queries),
    ):
        check_in_range(count, name, low=1, integer=True)
    if "none" in defences:
        raise ValueError('defences has the name "none", which is that of the classifier without a defence')
    targets = {
        name: _Target.read(net, X, y, None, bounds, int(n_eot), seed)
        for name, net in {"none": classifier, **defences}.items()
    }
    alone = targets["none"]
    assert alone.net is not None
    bare = alone.net
    settings: dict[str, Any] = {"norm": p, "bounds": bounds}
    if substitute is None:
        substitute = _imitate(alone, derive_seed(seed, "substitute"))
    points = {
        "random noise": random_noise(alone.rows, size, random_state=derive_seed(seed, "noise"), **settings),
        "black-box transfer": _in_parts(
            alone, lambda x, t, s: transfer(substitute, x, t, size, steps=steps, random_state=s, **settings), seed,
            substitute,
        ),
    }  # fmt: skip

    def steps_on(loss: str) -> Callable[[Tensor, Tensor, int], Tensor]:
        return lambda x, t, s: bpda(
            bare, x, t, size, loss=loss, steps=steps, n_restarts=n_restarts, n_eot=alone.passes, random_state=s,
            **settings,
        )  # fmt: skip

    static = [_in_parts(alone, steps_on(loss), seed, bare) for loss in ("cross_entropy", "margin")]
    if p == math.inf:
        static.append(_in_parts(alone, lambda x, t, s: fgsm(bare, x, t, size, bounds=bounds), seed, bare))
    columns, warnings = [], []
    for name, target in targets.items():
        clean = target.right(target.rows)
        hits = {"none": clean, **{threat: target.right(x.to(target.rows)) for threat, x in points.items()}}
        hits["static grey-box"] = np.logical_and.reduce([target.right(x.to(target.rows)) for x in static])
        hits["score-based search"] = target.by_search(
            clean, size, n_queries=n_queries, random_state=derive_seed(seed, "search"), **settings
        )
        hits["adaptive white-box"] = adaptive = target.by_gradient(
            clean,
            size,
            steps=steps,
            n_restarts=n_restarts,
            random_state=derive_seed(seed, "adaptive"),
            **settings,
        )
        warnings += [f"{name}: {text}" for text in target.doubts(size, bounds, p, steps, seed)]
        for threat in ("score-based search", "black-box transfer", "static grey-box"):
            missed = float((adaptive & ~hits[threat]).mean())
            if missed > _FEW:
                warnings.append(
                    f"{name}: {threat} breaks {missed:.1%} of the samples that the adaptive attack does not: its "
                    "gradients are masked, and a better attack leaves less"
                )
        columns.append([hits[threat] for threat in THREATS])
    found = np.array(columns)  # defences, threats, samples
    spread = np.array([[wilson_interval(rows.sum(), len(rows)) for rows in column] for column in found])
    return RobustnessReport(
        THREATS,
        tuple(targets),
        found.mean(2).T,
        spread.transpose(1, 0, 2),
        {name: float(column.all(0).mean()) for name, column in zip(targets, found)},
        size,
        "inf" if p == math.inf else "2",
        len(alone.rows),
        tuple(warnings),
    )


def _in_parts(
    target: _Target, attack: Callable[[Tensor, Tensor, int], Tensor], seed: int, net: nn.Module
) -> Tensor:
    """What an attack makes of all rows, in batches."""
    moved = []
    with evaluation_mode(net), forked_torch_rng(derive_seed(seed, "parts"), target.rows.device):
        for start in range(0, len(target.rows), _BATCH):
            part = slice(start, start + _BATCH)
            moved.append(attack(target.rows[part], target.labels[part], derive_seed(seed, "part", start)))
    return torch.cat(moved)


def _imitate(target: _Target, seed: int) -> nn.Module:
    """A small net, trained on the rows and the model's own answers to them."""
    said = torch.cat([torch.from_numpy(target.ask(part)) for part in batches_of(target.rows, _BATCH)])
    shape, k = tuple(target.rows.shape[1:]), said.shape[1]
    if len(shape) == 3 and min(shape[1:]) >= 8:
        net: nn.Module = build_seeded(lambda: benchmark_classifier("B", shape, k, width=16), seed)
    else:
        net = nn.Sequential(nn.Flatten(), build_seeded(lambda: mlp([math.prod(shape), 64, k]), seed))
    net.to(target.rows)
    recipe = DescentRecipe(steps=300, lr=2e-3, batch_size=64, schedule="onecycle")
    data = (target.rows, said.argmax(1).to(target.rows.device))
    descend(lambda x, t: nn.functional.cross_entropy(net(x), t), net, recipe, data, random_state=seed)
    return net.eval()


# ---- what is compared


def defend(classifier: nn.Module, filter: nn.Module) -> nn.Module:
    """Return a classifier that sees what a filter, such as :class:`LQVAE`, makes of its inputs.

    Both are held, not copied; the parts are called ``filter`` and ``classifier``.
    """
    for name, part in (("classifier", classifier), ("filter", filter)):
        if not isinstance(part, nn.Module):
            raise TypeError(f"{name} must be a torch module, got {type(part).__name__}")
    return nn.Sequential(OrderedDict(filter=filter, classifier=classifier))


@checked
def benchmark_classifier(
    kind: str, image_shape: tuple[int, int, int] = (1, 28, 28), n_classes: int = 10, *, width: int = 64
) -> nn.Sequential:
    """One of four small nets on which defences are compared.

    Parameters
    ----------
    kind : {"A", "B", "C", "D"}
        A: two 5 x 5 convolutions. B: three convolutions of 8, 6 and 5. C: convolutions of 3 and 5, the first wide. D:
        two dense layers.
    width : int
        Channels of the first layer of A; all others in proportion.
    """
    check_choice(kind, tuple("ABCD"), "kind")
    if not isinstance(image_shape, tuple | list) or len(image_shape) != 3:
        raise ValueError(f"image_shape must be (channels, height, width), got {image_shape!r:.80}")
    channels, height, across = image_shape
    check_counts(width=width, n_classes=n_classes, channels=channels, height=height, width_of_images=across)
    c, wide = image_shape[0], 2 * width
    convolutions: dict[str, list[nn.Module]] = {
        "A": [nn.Conv2d(c, width, 5, padding=2), nn.ReLU(), nn.Conv2d(width, width, 5, 2, 2), nn.ReLU()],
        "B": [nn.Dropout(0.2), nn.Conv2d(c, width, 8, 2, 3), nn.ReLU(), nn.Conv2d(width, wide, 6, 2, 2), nn.ReLU(),
              nn.Conv2d(wide, wide, 5, padding=2), nn.ReLU()],
        "C": [nn.Conv2d(c, wide, 3, padding=1), nn.ReLU(), nn.Conv2d(wide, width, 5, 2, 2), nn.ReLU()],
        "D": [],
    }  # fmt: skip
    first = nn.Sequential(*convolutions[kind], nn.Flatten())
    with torch.no_grad(), evaluation_mode(first):
        n = first(torch.zeros(1, *image_shape)).shape[1]
    dense: dict[str, list[nn.Module]] = {
        "B": [nn.Dropout(0.5), nn.Linear(n, n_classes)],
        "D": [nn.Linear(n, 3 * width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(3 * width, 3 * width), nn.ReLU(),
              nn.Dropout(0.5), nn.Linear(3 * width, n_classes)],
    }  # fmt: skip
    common = [nn.Dropout(0.25), nn.Linear(n, wide), nn.ReLU(), nn.Dropout(0.5), nn.Linear(wide, n_classes)]
    return nn.Sequential(*first, *dense.get(kind, common))


@checked
def adversarial_training(
    model: nn.Module,
    X: Any,
    y: Any,
    *,
    eps: Number,
    attack: str = "pgd",
    bounds: Bounds = (0, 1),
    attack_steps: int | np.integer = 5,
    epochs: int | np.integer = 5,
    batch_size: int | np.integer = 64,
    lr: Number = 1e-3,
    random_state: RandomState = 0,
    **options: Any,
) -> DescentResult:
    r"""Train a classifier in place on what attacks make of every batch.

    .. math:: \min_\theta \sum_i \max_{\|\delta\|_\infty \le \epsilon} L(f_\theta(x_i + \delta), y_i)

    Parameters
    ----------
    model : nn.Module
        Returns logits; it is attacked in training mode and left in evaluation mode.
    X : array-like or Tensor, shape (n, ...)
    y : array-like, shape (n,)
        Class numbers.
    eps : float
        Largest change of an entry.
    attack : {"pgd", "fgsm"}
        ``attack_steps`` from a random start, or one step from the input.
    bounds : (float, float), optional
    epochs, batch_size, lr
        Of Adam, whose rate rises and falls once.
    random_state : int, Generator or None
    **options
        Of :func:`lodim.training.descend`.

    References
    ----------
    arXiv 1706.06083; with one step: arXiv 1412.6572.
    """
    check_choice(attack, ("pgd", "fgsm"), "attack")
    size, seed = float(check_in_range(eps, "eps", low=0)), root_seed(random_state)
    check_in_range(attack_steps, "attack_steps", low=1, integer=True)
    weight = next(model.parameters())
    inputs = as_tensor(X, "X").detach().to(weight.dtype)
    check_bounds(inputs, bounds)
    if not inputs.ndim or not len(inputs):
        raise ValueError(f"X must have samples, shape (n, ...), got shape {tuple(inputs.shape)}")
    labels = torch.from_numpy(class_numbers(y, len(inputs)))
    with torch.no_grad(), evaluation_mode(model):
        check_classes(answer_of(model, inputs[:2].to(weight.device)), labels)

    def loss(x: Tensor, t: Tensor) -> Tensor:
        if attack == "fgsm":
            moved = fgsm(model, x, t, size, bounds=bounds)
        else:
            start = int(torch.randint(2**31 - 1, ()))  # of descend's own stream
            moved = pgd(
                model, x, t, size, bounds=bounds, steps=attack_steps, random_start=True, random_state=start
            )
        return losses_of(answer_of(model, moved), t).mean()

    recipe = DescentRecipe(epochs=int(epochs), lr=float(lr), batch_size=int(batch_size), schedule="onecycle")
    model.train()
    done = descend(loss, model, recipe, (inputs, labels), random_state=seed, **options)
    model.eval()
    return done


def _finite(rows: Tensor) -> Tensor:
    if not torch.isfinite(rows).all():
        raise ValueError("X has NaN or infinity; drop or impute them")
    return rows


def _sizes(eps: Any) -> list[float]:
    sizes = np.atleast_1d(check_numbers(eps, "eps")).ravel().tolist()
    sizes = sorted({float(check_in_range(size, "eps", low=0)) for size in sizes})
    if not sizes or math.isinf(sizes[-1]):
        raise ValueError(f"eps must hold finite sizes, at least one, got {eps!r}")
    return sizes


def _norm_in_words(norm: str) -> str:
    return "largest change of an entry" if norm == "inf" else "Euclidean"
