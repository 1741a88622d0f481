r"""A trained model as a seed and a short message: :class:`CompressedModel`.

The problem: a network trained in a random subspace is :math:`\theta_0 + P v`, where a seed regenerates
:math:`\theta_0` (the network's ordinary initialisation), another seed P, and only the d numbers v were learnt. Rounded
to a codebook of L values, v costs K bits (:mod:`lodim.landscape.code_lengths`), often a few hundred bytes for a
network of hundreds of thousands of weights: an upper bound on the solution's description length, and so on how much
it can have memorised.

====================== ====================================================
symbol                 name here
====================== ====================================================
v, :math:`\hat v`      ``SubspaceModule.theta_d``, ``CompressedModel.theta_d``
K                      ``message_bits``
====================== ====================================================

Sources: C. Li et al., "Measuring the intrinsic dimension of objective landscapes" (arXiv 1804.08838), Section 3
(description length); S. Lotfi et al. (arXiv 2211.13609), Section 4 (learned quantisation of v). Departures: numbers
outside the subspace that training changed (batch normalisation's statistics) are stored, and counted.

**Trained through the rounding** (:class:`QuantizedSubspace`). Rounding trained coordinates v to a codebook c costs
accuracy that further training can win back, but rounding has no useful derivative. The network runs with :math:`\hat
v_i = c_{k(i)}`, the codebook value nearest to :math:`v_i`, and the gradient is passed straight through:

.. math:: \frac{\partial L}{\partial v_i} := \frac{\partial L}{\partial \hat v_i}, \qquad
          \frac{\partial L}{\partial c_k} = \sum_{i : k(i) = k} \frac{\partial L}{\partial \hat v_i} .

====================== ====================================================
symbol                 name here
====================== ====================================================
v                      ``QuantizedSubspace.subspace.theta_d``
:math:`\hat v`         ``QuantizedSubspace.quantized()``
c                      ``QuantizedSubspace.codebook``
====================== ====================================================

Sources: S. Lotfi et al. (arXiv 2211.13609), Section 4; the straight-through estimator is Y. Bengio et al.'s
(arXiv 1308.3432). No departures.
"""

from __future__ import annotations

import copy
import json
import math
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from lodim.files import write_whole
from lodim.landscape.code_lengths import (
    Quantized,
    little_endian,
    message_length_bits,
    pack_quantized,
    prefix_free_bits,
    quantize_codebook,
    round_to_codebook,
    unpack_quantized,
)
from lodim.landscape.objective_landscapes.bases import describe_projection, refuse_shared, to_array
from lodim.landscape.objective_landscapes.bounds import compression_bound
from lodim.landscape.objective_landscapes.module import SubspaceModule
from lodim.nets import FlatSpec, flat_spec
from lodim.randomness import build_seeded
from lodim.sketch import make_projection
from lodim.validation import check_choice, check_numbers, checked

__all__ = ["CompressedModel", "QuantizedSubspace"]


@checked
class QuantizedSubspace(nn.Module):
    """A module whose subspace coordinates are rounded to a trainable codebook, gradients passed straight through.

    Parameters
    ----------
    subspace : SubspaceModule
        Copied, not changed.
    codebook : ndarray, shape (n_levels,)
        Where the codebook starts.

    Attributes
    ----------
    subspace : SubspaceModule
        The copy; ``subspace.theta_d`` is trained, and rounded wherever it is used.
    codebook : Parameter, shape (n_levels,)
    """

    def __init__(self, subspace: SubspaceModule, codebook: np.ndarray) -> None:
        super().__init__()
        self.subspace: SubspaceModule = copy.deepcopy(subspace)
        v = self.subspace.theta_d
        self.codebook = nn.Parameter(
            torch.tensor(check_numbers(codebook, "codebook", dtype=np.float32)).to(v)
        )

    def quantized(self) -> Float[Tensor, " d"]:
        """The rounded coordinates, differentiable in both the coordinates and the codebook."""
        v = self.subspace.theta_d
        ordered, order = self.codebook.detach().sort()
        codes = order[torch.bucketize(v.detach(), (ordered[1:] + ordered[:-1]) / 2)]
        return self.codebook[codes] + (v - v.detach())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the wrapped module, on its own arguments, at the rounded coordinates."""
        return functional_call(self.subspace, {"theta_d": self.quantized()}, args, kwargs)

    def rounded(self) -> Quantized:
        """The coordinates under the codebook rounded to half precision: what a message can hold."""
        return round_to_codebook(to_array(self.subspace.theta_d), to_array(self.codebook))


_MAGIC = b"lodim\x00cm\x01"
_SEED_BITS = 64  # two 32-bit seeds


@dataclass(frozen=True, eq=False)
class CompressedModel:
    """A model as seeds and a message.

    Made by :meth:`from_subspace` or :meth:`load`; :meth:`to_module` gives the network back.

    Attributes
    ----------
    D, d : int
        Weights produced, and numbers that produce them.
    theta0_seed : int
        ``build_seeded(make_model, theta0_seed)`` is the network at the origin of the subspace.
    projection : dict
        kind, seed, scale, dtype, round and options of the random map.
    coding : str
        ``"codes"``, ``"float16"`` or ``"float32"``.
    quantized : Quantized or None
        With ``coding="codes"``.
    raw : ndarray or None
        v itself, in half or single precision, otherwise.
    extras : dict of str to ndarray
        Entries of the state outside the subspace that differ from the fresh network's.
    parameters : tuple of str or None
        Names of the tensors that the D weights fill; None if they are all of the network's.
    layout_hash : str
        Of their names and shapes.
    weights_check : float
        A number computed from the D weights, which catches seeds that regenerate others.
    architecture : object
        The user's own description, JSON data.
    """

    D: int
    d: int
    theta0_seed: int
    projection: dict[str, Any]
    coding: str
    quantized: Quantized | None
    raw: np.ndarray | None
    extras: dict[str, np.ndarray]
    parameters: tuple[str, ...] | None
    layout_hash: str
    weights_check: float
    architecture: Any
    make_model: Callable[[], nn.Module] = field(repr=False)

    @classmethod
    def from_subspace(
        cls,
        subspace: SubspaceModule,
        make_model: Callable[[], nn.Module],
        theta0_seed: int,
        *,
        n_levels: int | None = 16,
        method: str = "kmeans",
        dtype: str = "float32",
        finetune: Callable[[nn.Module], Any] | None = None,
        architecture: Any = None,
    ) -> CompressedModel:
        """Compress a trained :class:`~lodim.landscape.SubspaceModule`.

        Parameters
        ----------
        subspace : SubspaceModule
            Trained, on ``build_seeded(make_model, theta0_seed)``. Not changed.
        make_model : callable
            Makes the network, taking no arguments.
        theta0_seed : int
            The seed of its initialisation.
        n_levels : int or None
            Size of the codebook; None stores v as it is.
        method : {"kmeans", "uniform"}
            How the codebook starts, see :func:`~lodim.landscape.code_lengths.quantize_codebook`.
        dtype : {"float32", "float16"}
            How v is stored without a codebook.
        finetune : callable, optional
            Given a :class:`QuantizedSubspace`, trains its parameters; the codebook is rounded to half precision
            afterwards.
        architecture : object, optional
            JSON data to be kept in the file, for whoever has to write ``make_model`` again.

        Raises
        ------
        ValueError
            If the seed does not regenerate the subspace's origin (moved, pre-trained or another seed), v (or what
            ``finetune`` made of it) does not fit the precision asked for, directions are structure-aware or given, or
            ``finetune`` comes without ``n_levels``.
        TypeError
            If ``architecture`` is no JSON data.
        """
        check_choice(dtype, ("float32", "float16"), "dtype")
        if n_levels is None and finetune is not None:
            raise ValueError(
                "finetune trains through the rounding to a codebook; give n_levels, or leave it out"
            )
        try:  # now, not when the file is written
            json.dumps(architecture, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise type(error)(f"architecture must be JSON data: {error}") from error
        fresh = build_seeded(make_model, theta0_seed)
        refuse_shared(subspace.module, fresh)
        spec = _matching_spec(fresh, subspace.spec)
        _check_origin(subspace, spec, fresh, theta0_seed)
        quantized = raw = None
        if n_levels is not None:
            quantized = quantize_codebook(subspace.theta_d, n_levels, method)
            if finetune is not None:
                tuned = QuantizedSubspace(subspace, quantized.codebook)
                finetune(tuned)
                subspace, quantized = tuned.subspace, tuned.rounded()
        else:
            with np.errstate(over="ignore"):  # said properly just below
                raw = to_array(subspace.theta_d).astype(dtype)
            if not np.isfinite(raw).all():
                raise ValueError(f"theta_d does not fit {dtype}; use dtype='float32' or a codebook")
        model = cls(
            D=spec.numel,
            d=subspace.theta_d.numel(),
            theta0_seed=int(theta0_seed),
            projection=describe_projection(subspace.projection),
            coding=dtype if quantized is None else "codes",
            quantized=quantized,
            raw=raw,
            extras=_changed_extras(subspace.module, fresh, spec),
            parameters=None if len(spec.names) == len(list(fresh.parameters())) else tuple(spec.names),
            layout_hash=spec.layout_hash,
            weights_check=0.0,
            architecture=architecture,
            make_model=make_model,
        )
        object.__setattr__(model, "weights_check", _probe(model._weights(fresh, spec)))
        return model

    @property
    def theta_d(self) -> np.ndarray:
        """The coordinates v that the message holds, shape (d,), float32."""
        if self.quantized is not None:
            return self.quantized.values
        assert self.raw is not None
        return self.raw.astype(np.float32)

    @property
    def message_bits(self) -> int:
        """Bits K of what was learnt: v (with codebook and counts) and the numbers outside the subspace."""
        extra = sum(8 * array.nbytes for array in self.extras.values())
        if self.quantized is not None:
            return message_length_bits(self.quantized.codes, len(self.quantized.codebook)) + extra
        assert self.raw is not None
        return 8 * self.raw.nbytes + extra

    @property
    def n_bits(self) -> int:
        """Description length: the message and the two seeds."""
        return self.message_bits + _SEED_BITS

    @property
    def n_bytes(self) -> int:
        """Size of the file, header included."""
        return len(self.to_bytes())

    @property
    def ratio(self) -> float:
        """How many times fewer bits than the D weights in single precision."""
        return 32 * self.D / self.n_bits

    def bound(
        self,
        train_error: float,
        n: int,
        *,
        delta: float = 0.05,
        kind: str = "best",
        selection_bits: int | float = 0.0,
    ) -> float:
        """Upper bound on the error on new data, see :func:`~lodim.landscape.compression_bound`.

        The training error is that of *this* model (:meth:`to_module`) on the n samples. The seeds are taken as fixed
        before the data were seen; count seeds that were chosen among several in ``selection_bits``, with everything
        else that was.
        """
        bits = prefix_free_bits(self.message_bits)
        return compression_bound(train_error, bits, n, delta=delta, kind=kind, selection_bits=selection_bits)

    def to_module(self) -> nn.Module:
        """Return the network, its weights regenerated, in evaluation mode.

        ValueError if ``make_model`` makes another network, or the seeds regenerate other weights.
        """
        module = build_seeded(self.make_model, self.theta0_seed)
        spec = self._check_layout(module)
        theta = self._weights(module, spec)
        if abs(_probe(theta) - self.weights_check) > 1e-4 * float(theta.double().norm()) + 1e-12:
            raise ValueError(
                "the seeds regenerate other weights than those that were compressed: make_model initialises "
                "differently, or this version of torch draws other numbers"
            )
        spec.assign(module, theta)
        with torch.no_grad():
            state = module.state_dict(keep_vars=True)
            for name, array in self.extras.items():
                state[name].copy_(torch.from_numpy(array))
        return module.eval()

    def _check_layout(self, module: nn.Module) -> FlatSpec:
        chosen = self.parameters
        numel = sum(p.numel() for name, p in module.named_parameters() if chosen is None or name in chosen)
        if numel == self.D:
            spec = flat_spec(module, lambda name, _: chosen is None or name in chosen)
            if spec.layout_hash == self.layout_hash:
                return spec
        described = f"; it was described as {self.architecture!r}" if self.architecture is not None else ""
        raise ValueError(
            f"make_model makes another architecture ({numel:,} weights) than the one compressed ({self.D:,} weights, "
            f"other names or shapes){described}"
        )

    def _weights(self, fresh: nn.Module, spec: FlatSpec) -> Float[Tensor, " D"]:
        """theta0 + P v."""
        options = dict(self.projection)
        rounds, dtype = options.pop("round"), getattr(torch, options.pop("dtype"))
        P = make_projection(options.pop("kind"), self.D, self.d, dtype=dtype, **options)
        if rounds:
            P.reseed(rounds)
        theta0 = spec.flatten(fresh).detach()
        return theta0 + P(torch.from_numpy(self.theta_d)).to(theta0)

    def save(self, path: str | os.PathLike[str]) -> int:
        """Write the file; return its size in bytes."""
        data = self.to_bytes()
        write_whole(path, data)
        return len(data)

    def to_bytes(self) -> bytes:
        """The file's content: a packed JSON header, the message, the numbers outside the subspace, a checksum."""
        header = {name: getattr(self, name) for name in _PLAIN}
        if self.quantized is not None:
            message = pack_quantized(self.quantized)
            header |= {"levels": len(self.quantized.codebook), "coded": len(message)}
        else:
            assert self.raw is not None
            message = little_endian(self.raw)
        header["extras"] = {k: [str(a.dtype), list(a.shape)] for k, a in self.extras.items()}
        body = message + b"".join(little_endian(a) for a in self.extras.values())
        text = zlib.compress(json.dumps(header, separators=(",", ":"), allow_nan=False).encode(), 9)
        content = _MAGIC + struct.pack("<I", len(text)) + text + body
        return content + struct.pack("<I", zlib.crc32(content))

    @classmethod
    def load(cls, path: str | os.PathLike[str], make_model: Callable[[], nn.Module]) -> CompressedModel:
        """Read a file that :meth:`save` wrote; ``make_model`` makes the same network, taking no arguments.

        ValueError for another or a damaged file, or where ``make_model`` makes another architecture.
        """
        model = cls.from_bytes(Path(path).read_bytes(), make_model)
        model._check_layout(build_seeded(make_model, model.theta0_seed))
        return model

    @classmethod
    def from_bytes(cls, data: bytes, make_model: Callable[[], nn.Module]) -> CompressedModel:
        """Read the content of a file; ValueError for other or damaged content."""
        start = len(_MAGIC) + 4
        if not data.startswith(_MAGIC):
            raise ValueError("this is no compressed lodim model (or one of another version)")
        if len(data) < start + 4 or zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
            raise ValueError(f"the compressed model is damaged or cut ({len(data)} bytes); copy it again")
        stop = start + struct.unpack("<I", data[start - 4 : start])[0]
        header, body = json.loads(zlib.decompress(data[start:stop])), data[stop:-4]
        quantized = raw = None
        if header["coding"] == "codes":
            size = header["coded"]
            quantized = unpack_quantized(body[:size], header["levels"], header["d"])
        else:
            size = header["d"] * np.dtype(header["coding"]).itemsize
            raw = np.frombuffer(body[:size], np.dtype(header["coding"]).newbyteorder("<"))
            raw = raw.astype(header["coding"])
        extras = {}
        for name, (dtype, shape) in header["extras"].items():
            count = math.prod(shape)
            array = np.frombuffer(body, np.dtype(dtype).newbyteorder("<"), count, size)
            extras[name] = array.astype(dtype).reshape(shape)
            size += array.nbytes
        plain = {name: header[name] for name in _PLAIN}
        if plain["parameters"] is not None:
            plain["parameters"] = tuple(plain["parameters"])
        return cls(**plain, quantized=quantized, raw=raw, extras=extras, make_model=make_model)

    def __str__(self) -> str:
        how = f"{len(self.quantized.codebook)} levels" if self.quantized is not None else self.coding
        return (
            f"{self.D:,} weights from {self.d} numbers ({how}): {math.ceil(self.message_bits / 8)} bytes of message "
            f"and two seeds, {self.ratio:,.0f}x smaller"
        )


_PLAIN = (
    "D",
    "d",
    "theta0_seed",
    "projection",
    "coding",
    "parameters",
    "layout_hash",
    "weights_check",
    "architecture",
)


def _matching_spec(fresh: nn.Module, spec: FlatSpec) -> FlatSpec:
    """The fresh network's layout of the subspace's parameters."""
    names = set(spec.names)
    own = flat_spec(fresh, lambda name, _: name in names)
    if own.layout_hash != spec.layout_hash:
        raise ValueError(
            f"make_model makes another architecture ({own.numel:,} weights) than the subspace's ({spec.numel:,})"
        )
    return own


def _check_origin(subspace: SubspaceModule, spec: FlatSpec, fresh: nn.Module, seed: int) -> None:
    """Raise unless the seed regenerates theta0."""
    theta0 = spec.flatten(fresh).detach()
    if not torch.equal(theta0, subspace.theta0.detach().to(theta0)):
        raise ValueError(
            f"build_seeded(make_model, {seed}) does not give the origin that this subspace was trained from; pass the "
            "seed it was built with (a moved or pre-trained origin cannot be regenerated from a seed)"
        )


def _changed_extras(module: nn.Module, fresh: nn.Module, spec: FlatSpec) -> dict[str, np.ndarray]:
    """State outside the subspace that differs from the fresh network's."""
    inside, before = set(spec.names), fresh.state_dict()
    return {
        name: to_array(value)
        for name, value in module.state_dict().items()
        if name not in inside and not torch.equal(value.cpu(), before[name].cpu())
    }


def _probe(theta: Tensor) -> float:
    """A number that other weights would not give: their inner product with a fixed wave."""
    wave = torch.cos(torch.arange(theta.numel(), dtype=torch.float64))
    return float(theta.detach().cpu().double() @ wave)
