r"""The library's one descent: :func:`descend` lowers any loss over any parameters, one player or several in turn.

.. math:: \theta_k \leftarrow \theta_k - \eta_t\, \mathrm{step}_k\big(\nabla_{\theta_k} L_k(\theta_1, \ldots, \theta_K;\
          x_t)\big), \qquad k = 1, \ldots, K,

where every player k has a loss, parameters and an optimiser of its own, and :math:`x_t` is a batch. One player is
ordinary training; two with opposed losses are a generative adversarial network, two with nested ones a bilevel problem.

The order of the data and all of torch's random draws follow from the seed and from the step, so that a run which was
interrupted and goes on from its checkpoint ends with the same bits as one that was not.
"""

from __future__ import annotations

import copy
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lodim.files import DamagedFileError
from lodim.randomness import RandomState, derive_seed, forked_torch_rng, root_seed
from lodim.training import checkpoint as files
from lodim.training import origin
from lodim.training.data import Batches
from lodim.training.ema import ExponentialMovingAverage
from lodim.training.players import Moving, Player
from lodim.training.processes import Processes
from lodim.training.recipe import DescentRecipe, DescentResult, EpochRecord, Watch, ended
from lodim.training.schedules import Rates
from lodim.validation import ConvergenceWarning, check_in_range, checked, warn

__all__ = ["DescentRun", "Progress", "descend"]

Progress = Callable[[float, str], Any]
Callback = Callable[["DescentRun"], Any]
_GIVE_UP = 20  # steps in a row that are not finite
_RESUMABLE = ("deadline", "callback", "interrupted")


@checked
def descend(
    loss: Callable[..., Any] | Sequence[Player],
    parameters: Any,
    recipe: DescentRecipe,
    data: Any = None,
    *,
    random_state: RandomState = 0,
    ema: ExponentialMovingAverage | Sequence[ExponentialMovingAverage] = (),
    score: Callable[[], float] | None = None,
    early_stop_score: float | int | None = None,
    on_step: Callback | None = None,
    on_epoch: Callback | None = None,
    on_stop: Callback | None = None,
    deadline: float | None = None,
    progress: Progress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    keep: Mapping[str, Any] | None = None,
    identity: Any = None,
    accelerator: Any = None,
    interruptible: bool = True,
) -> DescentResult:
    """Lower a loss by changing parameters in place.

    Parameters
    ----------
    loss : callable or sequence of Player
        ``loss(*batch)``, a scalar tensor; a batch that is neither tuple nor list is its only argument, and without
        data there is none. A pair (loss, shown) has another number noted in the history.
    parameters : nn.Module, or iterable of tensors, modules or groups; None with players
        Of what is given, that which requires a gradient. A module with ``param_groups(1.0)`` has its rates in
        proportion to those. Modules are left in the mode, training or evaluation, in which they are.
    data : Tensor, tuple or dict of tensors, Dataset, DataLoader, iterable, or None
        Tensors and data sets are shuffled anew in every pass and cut into batches; a loader or another
        iterable (a list too) yields batches. Batches are brought to the device of the first parameter.
    random_state : int, Generator or None
        Of the order of the data and of all draws from torch's generators (dropout, loaders). A checkpoint is of the run
        whose seed it was, so None, or a generator that has gone on, begins another run.
    ema : ExponentialMovingAverage, or several
        Updated after every step that was not skipped.
    score : callable, optional
        Taken after every epoch, higher is better; with the recipe's ``patience``, minus the mean loss by default.
    early_stop_score : float, optional
        The run ends after the first epoch whose score reaches it.
    on_step, on_epoch, on_stop : callable, optional
        Called with the :class:`DescentRun` after every step (before the averages are updated, so that it may change
        parameters), after every epoch, and at the end. ``run.stop()`` ends the run.
    deadline : float, optional
        A value of ``time.monotonic()``; the run ends before the first step past it.
    progress : callable, optional
        ``progress(done, text)`` after every epoch, ``done`` in [0, 1].
    checkpoint : path, optional
        Written after every epoch and at the end. If it exists, the run goes on from it, and ends with the same bits;
        batches that were used of an iterable are drawn again and dropped. A file of tensors and plain data; delete
        it to start again. A run with other settings, data, initial parameters or code is refused by saying what
        differs; a damaged file is set aside as ``<name>.damaged`` and the run starts again; a file of another kind
        is refused. Of data sets, loaders and samplers of your own the class, the length and the numbers they hold
        in memory count, of iterables the type and length, of losses the code, its settings and its modules that
        nothing trains, such as a teacher; whatever else they
        depend on belongs into ``identity``, as does what callbacks do. Of modules, buffers are kept too, of mere
        tensors (``net.parameters()``) they are not.
    keep : mapping of str to object, optional
        What else belongs into the checkpoint: anything with ``state_dict`` and ``load_state_dict``.
    identity : object, optional
        What else must agree for a checkpoint to be this run's, e.g. what the loss depends on; of a mapping each
        entry, under its name. It counts by its content (:func:`lodim.identity.content_hash`), which must not change
        during the run.
    accelerator : accelerate.Accelerator, optional
        Of several processes that run this together. They start from the first one's parameters, and each takes its
        rows of every batch of tensors and data sets; loaders must yield each process its part
        (``accelerator.prepare``).
    interruptible : bool
        Whether Ctrl-C ends the run after the present step with a result that says "interrupted" (a second one at
        once); otherwise it is raised again, after the checkpoint has been written.

    Raises
    ------
    ValueError
        Nothing to train, no batch, a loss that is no scalar or does not depend on the parameters, a checkpoint of
        another run, or arguments out of range.
    TypeError
        An ``identity`` whose content cannot be told, or a state in ``keep`` that cannot be read again.
    """
    players = [Player(loss, parameters)] if callable(loss) else list(loss)
    if not players or (parameters is None) == callable(loss):
        raise ValueError("give a loss and its parameters, or a sequence of Player and None")
    if early_stop_score is not None and score is None:
        raise ValueError("early_stop_score needs a score")
    if early_stop_score is not None:
        check_in_range(early_stop_score, "early_stop_score")
    for name, value in (keep or {}).items():
        if not hasattr(value, "state_dict"):
            raise TypeError(
                f"keep[{name!r}] must have state_dict and load_state_dict, got {type(value).__name__}"
            )
    processes = Processes(accelerator)
    seed = processes.gather(root_seed(random_state))[0]  # without an int each would draw another
    run = DescentRun(players, recipe, data, seed, processes)
    run.watch = Watch(recipe.patience, early_stop_score)
    run.emas = [ema] if isinstance(ema, ExponentialMovingAverage) else list(ema)
    run.score, run.on_step, run.on_epoch = score, on_step, on_epoch
    if score is None and recipe.patience is not None:
        run.score = lambda: -run.mean_loss
    run.deadline, run.progress, run.keep = deadline, progress, dict(keep or {})
    own = derive_seed(seed, "layers", *([run.processes.rank] if run.processes.rank else []))
    with (
        forked_torch_rng(own, run.device), torch.inference_mode(False), torch.enable_grad(),
        _interrupts() as run.interrupts,
    ):  # fmt: skip
        if checkpoint is not None:
            run.open(Path(checkpoint), early_stop_score, identity)
        try:
            run.descend()
        except (KeyboardInterrupt, RuntimeError) as error:
            # the workers of a loader have the Ctrl-C too, and are missed
            missed = run.interrupts and "DataLoader worker" in str(error)
            if isinstance(error, RuntimeError) and not missed:
                raise
            run.interrupts.append(signal.SIGINT)
            run.stopped = run.stopped or "interrupted"
        run.save()
        if interruptible or not run.interrupts:
            run.return_to_best()
            if on_stop is not None:
                on_stop(run)
    if run.interrupts and not interruptible:
        raise KeyboardInterrupt
    return run.result()


class DescentRun:
    """A descent under way, as callbacks see it.

    Attributes
    ----------
    step, epoch, samples : int
        Finished so far.
    loss : Tensor
        The first player's in the last step in which it moved.
    mean_loss : float
        The first player's, of the last epoch.
    players : list
        With ``parameters`` and ``optimizer`` each.
    stopped : str or None
        Why the run ended.
    """

    score: Callable[[], float] | None = None
    on_step: Callback | None = None
    on_epoch: Callback | None = None
    progress: Progress | None = None
    deadline: float | None = None
    watch: Watch
    emas: Sequence[ExponentialMovingAverage] = ()
    keep: Mapping[str, Any]
    interrupts: list[int]

    def __init__(
        self, players: list[Player], recipe: DescentRecipe, data: Any, seed: int, processes: Processes
    ) -> None:
        self.recipe, self.seed, self.processes = recipe, seed, processes
        self.players = [Moving(player, recipe, len(players) == 1) for player in players]
        self.device = self.players[0].parameters[0].device
        rank, world = processes.rank, processes.count
        self.batches = Batches(data, int(recipe.batch_size), self.seed, self.device, rank, world)
        self.epoch_steps = recipe.epoch_steps
        if self.epoch_steps is None and self.batches.length is None and recipe.steps is not None:
            self.epoch_steps = max(1, recipe.steps // 100)
        if self.epoch_steps is None and data is None:
            raise ValueError("epochs need data, or a length: give data, steps= or epoch_steps=")
        length = self.epoch_steps or self.batches.length
        total = recipe.steps if recipe.epochs is None else length and recipe.epochs * length
        self.rates = Rates(recipe.schedule, recipe.warmup, total)
        self.step, self.epoch, self.samples, self.skipped = 0, 0, 0, 0
        self.mean_loss = math.nan
        self.loss: Tensor | None = None
        self.stopped: str | None = "budget" if recipe.steps == 0 else None
        self.best: Any = None
        self._losses: list[list[float]] = []
        self._counts: list[int] = []
        self._pending: list[list[Tensor | None]] = []  # losses still on the device
        self._epoch_start = 0
        self._consistent, self._asked = True, False
        self._path: Path | None = None
        self._saved: Any = None
        self._warned = False
        self._earlier, self._started = 0.0, time.monotonic()
        for player in self.players:
            processes.share(player.parameters)

    @property
    def share_done(self) -> float:
        """Of the budget, in [0, 1]."""
        at = self.epoch if self.recipe.steps is None else self.step
        return at / (self.recipe.steps or self.recipe.epochs or 1)

    def stop(self) -> None:
        """End the run before its next step."""
        self._asked = True

    def descend(self) -> None:
        """Go on until there is a reason to stop."""
        while self.stopped is None:
            batches = iter(self.batches)
            while not self.batches.at_end:
                self.stopped = self._wish()
                self._consistent = self.stopped is not None
                batch = next(batches, None) if self.stopped is None else None
                if batch is None:
                    break
                self._take(*batch)
                if self.stopped is not None:
                    break
            self._consistent = True
            if self.stopped is not None:
                break
            if self.batches.used == 0:
                self._no_more()
                break
            self.batches.passes, self.batches.used = self.batches.passes + 1, 0
            if self.epoch_steps is None:
                self._close_epoch()
        if self.progress is not None and self.stopped in (*_RESUMABLE, "exhausted"):
            self.progress(1.0, f"{self.step} steps{ended(self.stopped)}")

    def _wish(self) -> str | None:
        """Why the run should end here; all processes agree."""
        late = self.deadline is not None and time.monotonic() >= self.deadline
        wish = 3 if self.interrupts else 2 if self._asked else 1 if late else 0
        wish = max(self.processes.numbers(wish, self.device))
        return (None, "deadline", "callback", "interrupted")[wish]

    def _no_more(self) -> None:
        if self.step == 0:
            raise ValueError("the data gave no batch; there is nothing to descend on")
        self.stopped = "exhausted"
        warn(
            f"the data ended for good after {self.step} steps; give an iterable that can begin again",
            stacklevel=5,
        )

    def _take(self, arguments: tuple[Any, ...], n: int) -> None:
        """One step: every player whose turn it is moves."""
        factor, momentum = self.rates.at(self.step)
        row: list[Tensor | None] = []
        moved, skipped = False, False
        for player in self.players:
            if (self.step + 1) % player.every:
                row.append(None)
                continue
            player.set_rate(factor, momentum)
            value, finite = self._move(player, arguments, n)
            row.append(value)
            moved, skipped = moved or finite, skipped or not finite
            if player.in_a_row == _GIVE_UP:
                self.stopped = "diverged"
        self.loss = self.loss if row[0] is None else row[0]
        self._pending.append(row)
        n = sum(self.processes.numbers(n, self.device))
        self._counts.append(n)
        self.samples += n
        self.step += 1
        self.skipped += skipped
        self.batches.used += 1
        if self.on_step is not None:
            self.on_step(self)
        if moved:
            for average in self.emas:
                average.update(n)
        self._consistent = True
        if self.stopped == "diverged":
            warn(
                f"the loss or its gradient was not finite in {_GIVE_UP} steps in a row",
                ConvergenceWarning,
                stacklevel=5,
            )
        elif self.step == self.recipe.steps or (self.epoch_steps and self.step % self.epoch_steps == 0):
            self._close_epoch()

    def _move(self, player: Moving, arguments: tuple[Any, ...], n: int) -> tuple[Tensor, bool]:
        """Return the loss (NaN if it, or its gradient, is not finite), and whether the player moved."""
        recipe = self.recipe
        player.optimizer.zero_grad(set_to_none=True)
        if recipe.autocast is None:
            value = player.loss(*arguments)
        else:
            with torch.autocast(self.device.type, dtype=recipe.autocast):
                value = player.loss(*arguments)
        value, shown = value if isinstance(value, tuple) else (value, value)
        if not isinstance(value, Tensor) or value.ndim:
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"the loss must be a scalar tensor, got {got}; take its mean or sum")
        shown = torch.as_tensor(shown, device=value.device)
        if shown.ndim:
            raise ValueError(f"the number shown must be a scalar too, got shape {tuple(shown.shape)}")
        player.backward(value)
        shown = self.processes.average(player.parameters, shown.detach(), n)
        if recipe.skip_nonfinite and not self._is_finite(value.detach(), shown, player.parameters):
            player.in_a_row += 1
            return torch.full_like(shown, math.nan), False
        player.in_a_row = 0
        if recipe.grad_clip is not None:
            nn.utils.clip_grad_norm_(player.parameters, recipe.grad_clip)
        player.optimizer.step()
        return shown, True

    def _is_finite(self, value: Tensor, shown: Tensor, parameters: list[Tensor]) -> bool:
        """Whether a loss and its gradient are; of several processes, what all of them know."""
        # largest entries: a sum of squares may overflow where no entry does
        sizes = torch._foreach_norm([p.grad for p in parameters if p.grad is not None], math.inf)
        total = (value if self.processes.count == 1 else shown) + torch.stack(sizes).sum()
        return math.isfinite(float(total))

    def _fetch_losses(self) -> None:
        """Bring the losses of the last steps from the device, all at once."""
        if not self._pending:
            return
        there = [value for row in self._pending for value in row if value is not None]
        values = iter(torch.stack(there).double().tolist() if there else ())
        self._losses += [[math.nan if v is None else next(values) for v in row] for row in self._pending]
        self._pending = []

    def _close_epoch(self) -> None:
        self._consistent = False
        self._fetch_losses()
        total, seen, every = 0.0, 0, self.players[0].every
        for step in range(self._epoch_start, self.step):
            value, n = self._losses[step][0], self._counts[step]
            if (step + 1) % every or (self.recipe.skip_nonfinite and math.isnan(value)):
                continue
            total, seen = total + value * n, seen + n
        self._epoch_start = self.step
        self.epoch += 1
        self.mean_loss = total / seen if seen else math.nan
        before = self.watch.best
        if seen:
            value = math.nan
            if self.score is not None and math.isfinite(self.mean_loss):
                value = float(self.score())  # plain: it is saved
            value = self.processes.gather(value)[0]  # buffers, so scores, may differ
            self.stopped = self.watch.after_epoch(self.mean_loss, value)
            self.rates.after_epoch(self.mean_loss)
        else:  # all steps were skipped: no reason to judge by
            self.watch.history.append(EpochRecord(self.epoch, math.nan, math.nan))
        if self.recipe.patience is not None and self.watch.best > before:
            self.best = copy.deepcopy([player.state() for player in self.players])
        if self.stopped is None and self.share_done >= 1:
            self.stopped = "budget"
            if 0 < self.step == self.skipped:  # fewer than it takes to give up
                self.stopped = "diverged"
                warn("no step had a finite loss and gradient", ConvergenceWarning, stacklevel=6)
        if self.on_epoch is not None:
            self.on_epoch(self)
        self._consistent = True
        self.save()
        if self.progress is not None:
            share = 1.0 if self.stopped else self.share_done
            self.progress(share, f"epoch {self.epoch}, loss {self.mean_loss:.4g}")

    def return_to_best(self) -> None:
        """Take the parameters of the best epoch where the recipe has patience."""
        if self.best is not None and self.stopped not in ("diverged", "early_stop"):
            for player, state in zip(self.players, self.best, strict=True):
                player.load(state)

    def result(self) -> DescentResult:
        """Say what became of the run."""
        self._fetch_losses()
        assert self.stopped is not None
        losses = np.array(self._losses, float).reshape(self.step, len(self.players))
        history = tuple(self.watch.history)
        return DescentResult(losses, self.step, self.skipped, self._seconds, self.stopped, history)

    @property
    def _seconds(self) -> float:
        return self._earlier + time.monotonic() - self._started

    def open(self, path: Path, early_stop_score: float | None, identity: Any) -> None:
        """Go on from the checkpoint if there is one, and write it from now on."""
        self._path = path
        parts = {
            **origin.settings(self.recipe, self.seed, self.players, early_stop_score=early_stop_score),
            **self._code_and_data,
            "ema": origin.told([(average.half_life, len(average.averages)) for average in self.emas]),
            "keep": origin.told(sorted(self.keep)),
        }
        parts |= origin.named(identity, parts)
        own = parts, origin.weights([player.state() for player in self.players])
        self._parts, self._weights = self.processes.gather(own)[0]
        try:
            content = files.read(path, self.device) if path.exists() else None
        except DamagedFileError as error:
            self.processes.wait()  # till all have read it
            content = None
            if self.processes.rank == 0:
                aside = files.set_aside(path)
                warn(f"{error}; it is kept as {aside.name}, and the run starts again", stacklevel=4)
        if content is not None:
            self._check(content)
            self._load(content)
        if self.stopped is None and self.processes.rank == 0:
            files.check_writable(path)

    @property
    def _code_and_data(self) -> dict[str, str]:
        return {**origin.code_parts(self.players, self.score), **self.batches.identity}

    def _check(self, content: dict[str, Any]) -> None:
        """Refuse the checkpoint of another run."""
        assert self._path is not None
        names = origin.differences(self._parts, content["parts"], content["moved"])
        advice = "delete it or give another path"
        if not origin.same_weights(self._weights, content["weights"], [content["players"], content["best"]]):
            names.append("the parameters")
            advice += (
                " (the parameters are neither those that it began with nor those that it stopped at: build the model "
                "with the same seed)"
            )
        if names:
            said = " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
            raise ValueError(
                f"the checkpoint {self._path.name} belongs to another run: {said} "
                f"{'differ' if names[1:] else 'differs'}; {advice}"
            )

    def save(self) -> None:
        """Write the checkpoint, if there is to be one and the state is that between two steps."""
        if self._path is None or not self._consistent or self._saved == (self.step, self.stopped):
            return
        self._fetch_losses()
        generators = self.processes.gather(files.rng_states(self.device))
        if self.processes.rank == 0:
            # of use to this process only, after the end: any other begins where this one began
            moved = {} if self.stopped is None else self._code_and_data
            content = {
                "parts": self._parts,
                "weights": self._weights,
                "moved": moved,
                "players": [player.state() for player in self.players],
                "optimizers": [player.optimizer.state_dict() for player in self.players],
                "in_a_row": [player.in_a_row for player in self.players],
                "rates": self.rates.state_dict(),
                "ema": [average.state_dict() for average in self.emas],
                "kept": {name: value.state_dict() for name, value in self.keep.items()},
                "batches": self.batches.state_dict(),
                "generators": generators,
                "counters": {name: getattr(self, name) for name in _COUNTERS},
                "losses": torch.tensor(self._losses, dtype=torch.float64),
                "history": [vars(record) for record in self.watch.history],
                "watch": (self.watch.best, self.watch.since_best),
                "best": self.best,
                "stopped": self.stopped,
                "seconds": self._seconds,
            }
            self._write(self._path, content)
        self.processes.wait()
        self._saved = (self.step, self.stopped)

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        """Write the checkpoint; a disk that is full by now must not cost the work done."""
        try:
            files.write(path, content)
        except OSError as error:
            if not self._warned:
                former = "the former one is kept" if path.exists() else "there is none"
                warn(
                    f"the checkpoint {path.name} could not be written ({error.strerror or error}; {former}); the "
                    "training goes on, and tries again after every epoch",
                    stacklevel=5,
                )
            self._warned = True

    def _load(self, content: dict[str, Any]) -> None:
        self._parts, self._weights = content["parts"], content["weights"]
        for i, player in enumerate(self.players):
            player.load(content["players"][i])
            player.optimizer.load_state_dict(content["optimizers"][i])
            player.in_a_row = content["in_a_row"][i]
        self.rates.load_state_dict(content["rates"])
        for average, state in zip(self.emas, content["ema"], strict=True):
            average.load_state_dict(state)
        for name, value in self.keep.items():
            value.load_state_dict(content["kept"][name])
        self.batches.load_state_dict(content["batches"])
        if self.processes.rank < len(content["generators"]):
            files.set_rng_states(content["generators"][self.processes.rank], self.device)
        for name, value in content["counters"].items():
            setattr(self, name, value)
        self._losses = content["losses"].tolist()
        self.watch.history = [EpochRecord(**record) for record in content["history"]]
        self.watch.best, self.watch.since_best = content["watch"]
        self.best, self._earlier = content["best"], content["seconds"]
        self.stopped = None if content["stopped"] in _RESUMABLE else content["stopped"]
        self._saved = (self.step, self.stopped)


_COUNTERS = ("step", "epoch", "samples", "skipped", "mean_loss", "_counts", "_epoch_start")


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Note the first Ctrl-C in the list, so that a step is finished; the second is raised as ever."""
    noted: list[int] = []

    def note(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        noted.append(number)

    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield noted  # somebody else's business
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
