"""The state of one vectorised run: :class:`ReplicaBatch`, used by :func:`~lodim.training.fit_replicas`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lodim.nets import FlatSpec
from lodim.training.descent import Progress
from lodim.training.maps import group_lengths, group_rows
from lodim.training.order import epoch_order
from lodim.training.recipe import ADAM_BETA2, ADAM_EPS, FitResult, Recipe, Watch, schedule_at
from lodim.training.task import Task
from lodim.validation import ConvergenceWarning, warn

__all__ = ["Finished", "ReplicaBatch"]

Finished = Callable[[int, FitResult, Tensor], Any]
_EVALUATION_ROWS = 8192  # samples times replicas in one forward


class ReplicaBatch:
    """Replicas that train together, by index, in an order that puts replicas with equal maps and d side by side.

    Attributes
    ----------
    active : list of int
        Indices of the replicas still training, one a row.
    v, moment, square : Tensor, shape (sum of d,)
        The trained numbers of all of them, one after the other, and the optimiser's averages.
    theta : Tensor, shape (R, width)
        Weights; ``width`` is D and what padding the maps need.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: FlatSpec,
        replicas: Mapping[int, Any],
        task: Task,
        recipe: Recipe,
        watches: Mapping[int, Watch],
        score_on: str = "val",
        record_scores: bool = False,
    ) -> None:
        first = next(iter(replicas.values())).theta0
        self.model, self.spec, self.recipe = model, spec, recipe
        self.task = task.to(first.device, first.dtype)
        self.replicas, self.watches = replicas, watches
        self.score_on, self.record_scores = score_on, record_scores
        self.steps, self.epoch = 0, 0
        self.seconds = dict.fromkeys(replicas, 0.0)
        self.best_v: dict[int, Tensor] = {}
        self.active = list(replicas)
        self.v = torch.cat([r.v0.detach().to(first) for r in replicas.values()])
        self.moment, self.square = torch.zeros_like(self.v), torch.zeros_like(self.v)
        self._lay_out()

    def _lay_out(self) -> None:
        """Derive everything that depends on which replicas are active."""
        chosen = [self.replicas[i] for i in self.active]
        self.sizes = [r.v0.numel() for r in chosen]
        maps = [r.map for r in chosen]
        self.lengths = group_lengths(maps, self.sizes)
        self.groups = group_rows([r.theta0.detach() for r in chosen], maps, self.sizes)
        padding = max(-self.spec.numel % d if r.map is not None else 0 for r, d in zip(chosen, self.sizes))
        width = self.spec.numel + padding
        self.theta = self.v.new_zeros(len(chosen), width).requires_grad_()
        self.parts = [*self.spec.sizes, padding] if padding else list(self.spec.sizes)
        sizes = torch.tensor(self.sizes, device=self.v.device)
        self.owner = torch.repeat_interleave(torch.arange(len(chosen), device=self.v.device), sizes)
        rates = [float(r.lr) for r in chosen]
        self.rate: float | Tensor = rates[0]
        if len(set(rates)) > 1:
            self.rate = torch.tensor(rates, dtype=self.v.dtype, device=self.v.device)[self.owner]

    def run(self, deadline: float | None, finish: Finished, progress: Progress | None) -> None:
        """Train until every replica has stopped, handing each to ``finish``."""
        total = len(self.active)
        while self.active:
            started = time.monotonic()
            losses, cut = self._one_epoch(deadline)
            scores = self._epoch_scores() if not cut else {}
            reasons = dict.fromkeys(self.active, "deadline") if cut else self._reasons(losses, scores)
            share = (time.monotonic() - started) / len(self.active)
            for index in self.active:
                self.seconds[index] += share
            self._retire(reasons, finish)
            if progress is not None:
                done = 1 - len(self.active) / total * (1 - self.epoch / self.recipe.epochs)
                progress(done, f"epoch {self.epoch}, {len(self.active)} of {total} runs go on")

    def _one_epoch(self, deadline: float | None) -> tuple[list[float], bool]:
        """Pass once over the data; return each replica's mean loss, and whether the deadline cut the epoch."""
        task, n = self.task, self.task.n_train
        seeds = [self.replicas[i].seed for i in self.active]
        orders = {seed: epoch_order(n, seed, self.epoch) for seed in set(seeds)}
        order = torch.stack([orders[seed] for seed in seeds]).to(task.device)
        total = torch.zeros(len(self.active), dtype=torch.float64, device=task.device)
        for indices in order.split(self.recipe.batch_size, dim=1):
            if deadline is not None and time.monotonic() >= deadline:
                return [], True
            total += self._step(_take(task.X, indices), _take(task.y, indices)).double() * indices.shape[1]
        self.epoch += 1
        return (total / n).tolist(), False

    def _step(self, x: Tensor, y: Tensor) -> Float[Tensor, " replicas"]:
        recipe = self.recipe
        self._write_weights()
        losses = self.task.loss(self._outputs(x, 0), y)
        (grad,) = torch.autograd.grad(losses.sum(), self.theta)
        with torch.no_grad():
            if recipe.weight_decay and recipe.penalty == "theta":
                grad = grad.add_(self.theta, alpha=recipe.weight_decay)
            gradient = self._gradient(grad)
            if recipe.grad_clip is not None:
                self._clip(gradient, recipe.grad_clip)
            self._update(gradient)
        return losses.detach()

    @torch.no_grad()
    def _write_weights(self) -> None:
        for group, rows, v in self._by_group():
            group.write(v, self.theta[rows])

    def _by_group(self) -> list[tuple[Any, slice, Tensor]]:
        """Each group with its rows of ``theta`` and its part of ``v``, shape (m, d)."""
        found, row, start = [], 0, 0
        for group, length in zip(self.groups, self.lengths):
            d = self.sizes[row]
            v = self.v[start : start + length * d].view(length, d)
            found.append((group, slice(row, row + length), v))
            row, start = row + length, start + length * d
        return found

    def _outputs(self, x: Tensor, x_axis: int | None) -> Tensor:
        """Run all replicas, each on its own inputs (``x_axis`` 0) or all on the same (None)."""
        views = self.theta.split(self.parts, dim=1)
        weights = {
            name: view.unflatten(1, shape) if shape else view.squeeze(1)
            for name, view, shape in zip(self.spec.names, views, self.spec.shapes)
        }

        if len(self.active) == 1:  # the same without the batching's cost
            one = {name: weight.squeeze(0) for name, weight in weights.items()}
            return self._output(one, x if x_axis is None else x.squeeze(0)).unsqueeze(0)
        return vmap(self._output, in_dims=(0, x_axis))(weights, x)

    def _output(self, weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(self.model, self.spec.everywhere(weights), (inputs,), tie_weights=False)

    def _gradient(self, grad: Tensor) -> Float[Tensor, " total"]:
        parts = []
        for group, rows, v in self._by_group():
            part = group.adjoint(grad[rows])
            direct = self.replicas[self.active[rows.start]].map is None
            if self.recipe.weight_decay and self.recipe.penalty == "v":
                part = part.add(
                    self.theta[rows, : part.shape[1]] if direct else v, alpha=self.recipe.weight_decay
                )
            parts.append(part.reshape(-1))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _clip(self, gradient: Tensor, most: float) -> None:
        """As ``torch.nn.utils.clip_grad_norm_``, for every replica by itself."""
        norms = gradient.new_zeros(len(self.active)).index_add_(0, self.owner, gradient.square()).sqrt_()
        gradient.mul_((most / (norms + 1e-6)).clamp_(max=1.0)[self.owner])

    def _update(self, gradient: Tensor) -> None:
        """One step of Adam, or of SGD with momentum, elementwise."""
        recipe = self.recipe
        factor, momentum = schedule_at(recipe.schedule, self.steps, recipe.n_steps(self.task.n_train))
        self.steps += 1
        if recipe.optimizer == "sgd":
            self._move(self.moment.mul_(momentum).add_(gradient), None, factor)
            return
        self.moment.lerp_(gradient, 1 - momentum)
        self.square.mul_(ADAM_BETA2).addcmul_(gradient, gradient, value=1 - ADAM_BETA2)
        bias = math.sqrt(
            1 - ADAM_BETA2**self.steps
        )  # both corrections act on the factor, not on every element
        size = self.square.sqrt().add_(ADAM_EPS * bias)
        self._move(self.moment, size, factor * bias / (1 - momentum**self.steps))

    def _move(self, direction: Tensor, size: Tensor | None, factor: float) -> None:
        """``v -= factor * rate * direction / size``; a rate that all share costs no pass over the elements."""
        if isinstance(self.rate, float):
            factor *= self.rate
        else:
            direction = direction * self.rate
        if size is None:
            self.v.sub_(direction, alpha=factor)
        else:
            self.v.addcdiv_(direction, size, value=-factor)

    @torch.no_grad()
    def _scores(self, which: str) -> list[float]:
        """Score of every active replica at its present v."""
        self._write_weights()
        X, y = (self.task.X, self.task.y) if which == "train" else (self.task.X_val, self.task.y_val)
        rows = max(_EVALUATION_ROWS // len(self.active), 64)
        # copies, since where in memory data lie changes how their products are rounded
        outputs = torch.cat([self._outputs(part.clone(), None) for part in X.split(rows)], dim=1)
        return self.task.score(outputs, y.expand(len(self.active), -1)).tolist()

    def _epoch_scores(self) -> dict[int, float]:
        wanted = self.record_scores or any(self.watches[i].wants_score for i in self.active)
        return dict(zip(self.active, self._scores(self.score_on))) if wanted else {}

    def _reasons(self, losses: Sequence[float], scores: Mapping[int, float]) -> dict[int, str]:
        """Why replicas stop after this epoch; those that go on are absent."""
        reasons = {}
        for index, loss, v in zip(self.active, losses, self.v.split(self.sizes)):
            watch = self.watches[index]
            before = watch.best
            reason = watch.after_epoch(loss, scores.get(index, math.nan))
            if watch.patience is not None and watch.best > before:
                self.best_v[index] = v.clone()
            if reason is None and self.epoch == self.recipe.epochs:
                reason = "budget"
            if reason is not None:
                reasons[index] = reason
        return reasons

    def _retire(self, reasons: Mapping[int, str], finish: Finished) -> None:
        """Score the replicas that stop, hand them over, and go on with the rest."""
        if not reasons:
            return
        for index, v in zip(self.active, self.v.split(self.sizes)):
            if reasons.get(index) in ("patience", "budget", "deadline") and index in self.best_v:
                v.copy_(self.best_v[index])
        train = self._scores("train")
        scores = train if self.score_on == "train" else self._scores("val")
        for index, v, score, train_score in zip(self.active, self.v.split(self.sizes), scores, train):
            if index in reasons:
                finish(index, self._result(index, reasons[index], score, train_score), v.clone())
        self._keep([i for i in self.active if i not in reasons])

    def _result(self, index: int, reason: str, score: float, train_score: float) -> FitResult:
        history, lr = tuple(self.watches[index].history), self.replicas[index].lr
        if reason == "diverged" or not math.isfinite(train_score):
            reason, score, train_score = "diverged", math.nan, math.nan
            warn(
                f"training of replica {index} diverged in epoch {len(history)} at lr={lr:.3g}; use a smaller "
                "learning rate",
                ConvergenceWarning,
                stacklevel=6,
            )
        loss = history[-1].loss if history else math.nan
        return FitResult(score, train_score, loss, self.steps, lr, self.seconds[index], reason, history)

    def _keep(self, survivors: list[int]) -> None:
        if not survivors:
            self.active = []
            return
        rows = [self.active.index(i) for i in survivors]
        for name in ("v", "moment", "square"):
            pieces = getattr(self, name).split(self.sizes)
            setattr(self, name, torch.cat([pieces[row] for row in rows]))
        self.active = survivors
        self._lay_out()


def _take(data: Tensor, indices: Tensor) -> Tensor:
    """``data[indices]``, by the faster ``index_select``."""
    return data.index_select(0, indices.reshape(-1)).unflatten(0, indices.shape)
