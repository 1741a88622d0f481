r"""A task as a few numbers on top of a shared base: :class:`TaskVector`.

**Problem.** One pre-trained model serves many tasks; a fine-tuned copy for each costs D weights. What training in a
subspace found is d numbers and a seed,

.. math:: \theta_{\text{task}} = \theta_0 + \Lambda P v ,

so a task is kept as a file of a few hundred bytes and put onto the base, and taken off again, whenever it is needed.
Taking off must restore the base exactly; floating-point subtraction does not (:math:`(a + b) - b \ne a`), so the base's
own numbers are set aside while a task is on.

==========================  ======================================================
Symbol                      Here
==========================  ======================================================
:math:`(v, \lambda)`        ``TaskVector.numbers``
P                           regenerated from ``TaskVector.projection``
:math:`\theta_0`            the model given to ``apply``; known by ``TaskVector.base``
==========================  ======================================================

Source: A. Aghajanyan and others, arXiv 2012.13255, Section 3; task vectors as files are ours.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.files import check_archive, write_whole
from lodim.landscape.code_lengths import (
    Quantized,
    message_length_bits,
    pack_quantized,
    prefix_free_bits,
    quantize_codebook,
    unpack_quantized,
)
from lodim.landscape.objective_landscapes.bases import (
    describe_projection,
    kept_outside,
    refuse_quantised,
    to_array,
)
from lodim.landscape.objective_landscapes.bounds import compression_bound
from lodim.landscape.objective_landscapes.module import SubspaceModule
from lodim.landscape.objective_landscapes.structure import StructureAware
from lodim.nets import FlatSpec, flat_spec
from lodim.sketch import make_projection

__all__ = ["TaskVector"]

_SEED_BITS = 32
_PLAIN = ("D", "base", "layout_hash", "parameters", "projection", "structure")


@dataclass(frozen=True, eq=False)
class TaskVector:
    """What training in a subspace learnt, apart from the model it was learnt on.

    Made by :meth:`from_subspace` or :meth:`load`.

    Attributes
    ----------
    numbers : ndarray, shape (d,)
        v, then what the factors of structure-aware directions are made of; in single precision, or in double if the
        model's weights are.
    D : int
        Weights that they move.
    base : str
        Digest of those weights' values before.
    layout_hash : str
        Of their names and shapes.
    parameters : tuple of str
        Their names.
    projection : dict
        Kind, seed, scale and options of P.
    structure : dict or None
        ``groups`` (of each tensor) and ``rate`` of structure-aware directions.
    outside : dict of str to ndarray
        Directly trained parameters (a head) and buffers, as they were after training.
    quantized : Quantized or None
        The numbers' codes, where they are rounded.
    """

    numbers: np.ndarray
    D: int
    base: str
    layout_hash: str
    parameters: tuple[str, ...]
    projection: dict[str, Any]
    structure: dict[str, Any] | None = None
    outside: dict[str, np.ndarray] = field(default_factory=dict)
    quantized: Quantized | None = None

    @classmethod
    def from_subspace(cls, subspace: SubspaceModule) -> TaskVector:
        """Take what a trained :class:`~lodim.landscape.SubspaceModule`, of directions drawn from a seed, has learnt."""
        P, structure, spec = subspace.projection, None, subspace.spec
        if isinstance(P, StructureAware):
            structure = {"groups": [P.groups[k] for k in P.owner], "rate": P.rate}
            P = P.projection
        saved = subspace.module.state_dict()  # buffers that are not saved are constants
        outside = {n: value for n, value in kept_outside(subspace.module).items() if n in saved}
        return cls(
            numbers=to_array(subspace.theta_d),
            D=spec.numel,
            base=_digest(subspace.theta0),
            layout_hash=spec.layout_hash,
            parameters=tuple(spec.names),
            projection=describe_projection(P),
            structure=structure,
            outside={name: to_array(value) for name, value in outside.items()},
        )

    # Size

    @property
    def d(self) -> int:
        """Numbers inside the subspace."""
        return len(self.numbers)

    @property
    def message_bits(self) -> int:
        """Bits of what was learnt: the numbers, rounded or as they are, and what lies outside."""
        extra = sum(8 * array.nbytes for array in self.outside.values())
        if self.quantized is None:
            return 8 * self.numbers.nbytes + extra
        return message_length_bits(self.quantized.codes, len(self.quantized.codebook)) + extra

    @property
    def n_bytes(self) -> int:
        """Size of the file."""
        return len(self.to_bytes())

    @property
    def layer_scales_(self) -> dict[str, float]:
        """The factor of each group of tensors; empty without structure."""
        if self.structure is None:
            return {}
        groups = tuple(dict.fromkeys(self.structure["groups"]))
        mu = self.numbers[self.d - len(groups) :].astype(float)
        return dict(zip(groups, (1 + self.structure["rate"] * mu).tolist()))

    def rounded(self, n_levels: int = 16, method: str = "kmeans") -> TaskVector:
        """Return the task with its numbers rounded to a codebook, see :func:`~lodim.landscape.quantize_codebook`."""
        quantized = quantize_codebook(self.numbers, n_levels, method)
        return replace(self, numbers=quantized.values.astype(np.float32), quantized=quantized)

    def bound(
        self,
        train_error: float,
        n: int,
        *,
        delta: float = 0.05,
        kind: str = "best",
        selection_bits: int | float = 0.0,
    ) -> float:
        """Bound the error on new data, if base and seed were fixed before the task's samples were seen.

        The training error is that of the base with *this* (rounded or unrounded) vector on the n samples; for the
        others see :func:`~lodim.landscape.compression_bound`.
        """
        bits = prefix_free_bits(self.message_bits + _SEED_BITS)
        return compression_bound(train_error, bits, n, delta=delta, kind=kind, selection_bits=selection_bits)

    # On a model

    def apply(self, model: nn.Module) -> nn.Module:
        """Put the task onto the base, in place, and return it.

        Its own weights are set aside (as much memory again) until :meth:`remove`.

        Raises
        ------
        ValueError
            Another layout, another base than the one this was learnt on, or a task that is on already.
        TypeError
            The model's weights are quantised.
        """
        if model in _APPLIED:
            other = "this task vector is" if _APPLIED[model].vector is self else "another task vector is"
            raise ValueError(f"{other} on this model already; remove it first")
        refuse_quantised(model)
        spec = self._layout(model)
        theta0 = spec.flatten(model)
        if _digest(theta0) != self.base:
            raise ValueError(
                "the model's weights are not those this task vector was trained on (another checkpoint, seed, "
                "precision or head); load the same base"
            )
        state = model.state_dict(keep_vars=True)
        outside = {name: state[name] for name in self.outside}
        _APPLIED[model] = _Before(self, theta0, {name: t.detach().clone() for name, t in outside.items()})
        spec.assign(model, self._theta(theta0, spec))
        _write(outside, {name: torch.from_numpy(array) for name, array in self.outside.items()})
        return model

    def remove(self, model: nn.Module) -> nn.Module:
        """Take the task off again, in place, and return the base, bit for bit as it was; ValueError if it is not on."""
        before = _APPLIED.get(model)
        if before is None or before.vector is not self:
            what = "no task vector is" if before is None else "another task vector is"
            raise ValueError(f"{what} on this model; it can only be taken off where apply has put it")
        self._layout(model).assign(model, before.theta0)
        state = model.state_dict(keep_vars=True)
        _write({name: state[name] for name in before.outside}, before.outside)
        del _APPLIED[model]
        return model

    @contextmanager
    def on(self, model: nn.Module) -> Iterator[nn.Module]:
        """Have the task on a base for the duration of a block."""
        self.apply(model)
        try:
            yield model
        finally:
            self.remove(model)

    def _layout(self, model: nn.Module) -> FlatSpec:
        wanted = set(self.parameters)
        own = [name for name, _ in model.named_parameters() if name in wanted]
        missing = [*sorted(wanted - set(own)), *(self.outside.keys() - model.state_dict().keys())]
        if missing:
            raise ValueError(f"the model has no {missing[0]!r}: it is another architecture")
        spec = flat_spec(model, lambda name, _: name in wanted)
        if spec.layout_hash != self.layout_hash:
            raise ValueError(
                f"the model has other shapes ({spec.numel:,} weights) than the one trained ({self.D:,} weights): it is "
                "another architecture"
            )
        state = model.state_dict()
        for name, array in self.outside.items():
            if tuple(state[name].shape) != array.shape:
                raise ValueError(
                    f"{name!r} has shape {tuple(state[name].shape)} in the model and {array.shape} in the task vector; "
                    "give it the head (or buffers) that the task was trained with"
                )
        return spec

    def _theta(self, theta0: Float[Tensor, " D"], spec: FlatSpec) -> Float[Tensor, " D"]:
        """The task's weights, by the operations of :meth:`SubspaceModule.theta`."""
        options = dict(self.projection)
        rounds, dtype = options.pop("round"), getattr(torch, options.pop("dtype"))
        groups = None if self.structure is None else dict(zip(self.parameters, self.structure["groups"]))
        d = self.d - (0 if groups is None else len(set(groups.values())))
        P: Any = make_projection(options.pop("kind"), self.D, d, dtype=dtype, device=theta0.device, **options)
        if rounds:
            P.reseed(rounds)
        if groups is not None:
            assert self.structure is not None
            P = StructureAware(P, spec, groups.__getitem__, self.structure["rate"])
        precision = torch.promote_types(theta0.dtype, torch.float32)
        numbers = torch.from_numpy(self.numbers).to(theta0.device, precision)
        with torch.no_grad():
            return (theta0 + P(numbers)).to(theta0.dtype)

    # Files

    def to_bytes(self) -> bytes:
        """The file's content: a NumPy archive of the numbers, what lies outside, and a JSON header."""
        header: dict[str, Any] = {name: getattr(self, name) for name in _PLAIN}
        arrays: dict[str, Any] = {f"outside:{name}": array for name, array in self.outside.items()}
        if self.quantized is None:
            arrays["numbers"] = self.numbers
        else:
            header |= {"levels": len(self.quantized.codebook), "d": self.d}
            arrays["message"] = np.frombuffer(pack_quantized(self.quantized), np.uint8)
        text = json.dumps(header, separators=(",", ":")).encode()
        buffer = io.BytesIO()
        np.savez_compressed(buffer, header=np.frombuffer(text, np.uint8), **arrays)
        return buffer.getvalue()

    def save(self, path: str | os.PathLike[str]) -> int:
        """Write the file; return its size in bytes."""
        data = self.to_bytes()
        write_whole(path, data)
        return len(data)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TaskVector:
        """Read a file that :meth:`save` wrote; ValueError for any other."""
        check_archive(path)
        return cls.from_bytes(Path(path).read_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> TaskVector:
        """Read the content of a file; ValueError for any other."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            header, quantized = json.loads(arrays.pop("header").tobytes()), None
            if "message" in arrays:
                quantized = unpack_quantized(arrays["message"].tobytes(), header["levels"], header["d"])
            numbers = arrays["numbers"] if quantized is None else quantized.values.astype(np.float32)
            plain = {name: header[name] for name in _PLAIN} | {"parameters": tuple(header["parameters"])}
        # whatever a damaged archive, or another program's, makes the readers raise
        except Exception as error:
            raise ValueError(f"this is no task vector of lodim, or a damaged one ({error})") from error
        outside = {k.removeprefix("outside:"): a for k, a in arrays.items() if k.startswith("outside:")}
        return cls(numbers, **plain, outside=outside, quantized=quantized)

    def __str__(self) -> str:
        how = "single precision" if self.numbers.itemsize == 4 else "double precision"
        if self.quantized is not None:
            how = f"{len(self.quantized.codebook)} levels"
        beside = sum(array.size for array in self.outside.values())
        more = f" and {beside:,} outside the subspace" if beside else ""
        return f"{self.d:,} numbers ({how}){more} that move {self.D:,} weights; {self.n_bytes:,} bytes"


@dataclass(frozen=True, eq=False)
class _Before:
    """A base's own numbers while a task is on."""

    vector: TaskVector
    theta0: Tensor
    outside: dict[str, Tensor]


_APPLIED: WeakKeyDictionary[nn.Module, _Before] = WeakKeyDictionary()


def _digest(theta: Tensor) -> str:
    """A hash of a vector's bits."""
    raw = theta.detach().cpu().contiguous().view(torch.uint8).numpy()
    return hashlib.blake2b(raw.tobytes(), digest_size=12).hexdigest()


@torch.no_grad()
def _write(targets: dict[str, Any], values: dict[str, Tensor]) -> None:
    for name, target in targets.items():
        target.copy_(values[name])
