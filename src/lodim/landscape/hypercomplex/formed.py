r"""What all layers share: the trained A and F, their initial values, and the weight formed from them.

**Initial values.** ``init="he"`` draws each :math:`A_i` orthogonal (uniformly) and :math:`F_i` normal with variance
2 / fan_in. Since :math:`\sum_i \sum_c A_{i,ac}^2 = n` for every a, outputs have exactly He's variance, and so have the
gradients of the inputs. The algebras' fixed matrices are orthogonal too. ``init="paper"`` follows the authors' code,
Xavier-uniform on the raw tensors, whose "fans" are then not those of the layer: for 256 to 256 channels, 3 x 3, n = 4
the weight's variance is 1.3e-5 instead of 8.7e-4, which batch normalisation alone repairs.

**Keeping H.** In evaluation mode with gradients off, H is formed once and kept until something it depends on may have
changed: ``train()``, ``load_state_dict``, a move, an optimiser's step, any in-place change that torch counts, or
other parameters put in place of its own (``torch.func.functional_call``). Writing through ``parameter.data`` in place
is what torch cannot see; call ``eval()`` afterwards.

Source: arXiv 2110.04176. Departures: the initial values; n = 1 keeps A = 1 fixed (a factor beside F, nothing to learn);
the bound of the authors' uniform biases includes the kernel's size.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from lodim.landscape.hypercomplex.algebra import ALGEBRAS, algebra_matrices, sum_products
from lodim.validation import check_choice, check_device, check_in_range, check_kind

__all__ = ["HypercomplexLayer", "check_sizes", "is_traced", "nearest_sizes"]

# Fused optimisers change parameters without counting it in their versions, so steps are counted here.
_steps = [0]


def _count_step(*_: Any) -> None:
    _steps[0] += 1


register_optimizer_step_post_hook(_count_step)


def nearest_sizes(size: int, n: int) -> tuple[int, ...]:
    """Return the multiples of n on both sides of a size that is none."""
    below = size // n * n
    return (below, below + n) if below else (n,)


def check_sizes(n: Any, algebra: str, **sizes: Any) -> int:
    """Return n as an int if it divides every size and suits the algebra.

    ``sizes`` by the names that messages call them; a ValueError names the nearest ones, or the algebra's n.
    """
    n = int(check_in_range(n, "n", low=1, integer=True))
    check_choice(algebra, ("learned", *ALGEBRAS), "algebra")
    if algebra != "learned" and n != ALGEBRAS[algebra]:
        raise ValueError(f"algebra={algebra!r} has n={ALGEBRAS[algebra]}, got n={n}")
    for name, size in sizes.items():
        check_in_range(size, name, low=1, integer=True)
        if size % n:
            near = " or ".join(str(s) for s in nearest_sizes(int(size), n))
            raise ValueError(f"n={n} does not divide {name}={size}; the nearest sizes are {near}")
    return n


class _Kept(NamedTuple):
    """A formed weight with all that it depends on; holding the sources keeps their addresses from being reused."""

    weight: Tensor
    sources: tuple[Tensor, Tensor]
    aliases: tuple[Tensor, Tensor]
    state: tuple[Any, ...]

    def stands_for(self, A: Tensor, F: Tensor) -> bool:
        """Whether forming the weight from A and F would give it again."""
        same = self.sources[0] is A and self.sources[1] is F
        return same and self.state == _state(A, F, self.weight)


class HypercomplexLayer(nn.Module):
    """A layer whose weight is ``sum_i A_i (x) F_i``; its subclasses say what is done with the weight.

    ``shape`` is the weight's (outputs, inputs, kernel), ``fan_in`` the inputs that one output sums over. A (n, n,
    n) is a parameter if the algebra is learned and n > 1, else a buffer (not in the state dict); F is (n,
    outputs/n, inputs/n, ...).
    """

    A: Tensor
    F: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        n: int,
        shape: tuple[int, ...],
        *,
        bias: bool,
        algebra: str,
        init: str,
        fan_in: float | int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_choice(init, ("he", "paper"), "init")
        check_kind(dtype, torch.dtype | None, "dtype")
        device = None if device is None else check_device(device)
        self.n, self.algebra, self.init, self.fan_in = n, algebra, init, float(fan_in)
        self._kept: _Kept | None = None
        outputs, inputs, *kernel = shape
        A = torch.empty(n, n, n, device=device, dtype=dtype)
        if algebra == "learned" and n > 1:
            self.A = nn.Parameter(A)
        else:
            self.register_buffer("A", A, persistent=False)
        self.F = nn.Parameter(torch.empty(n, outputs // n, inputs // n, *kernel, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(outputs, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the initial values anew, from torch's global generator."""
        A, he = self.A, self.init == "he"
        if self.n == 1:
            A.fill_(1.0)
        elif self.algebra != "learned":
            A.copy_(algebra_matrices(self.algebra))
        elif he:
            exact = torch.promote_types(A.dtype, torch.float32)
            for matrix in A:
                matrix.copy_(nn.init.orthogonal_(torch.empty(self.n, self.n, dtype=exact, device=A.device)))
        else:
            nn.init.xavier_uniform_(A)
        if he:
            nn.init.normal_(self.F, std=math.sqrt(2 / self.fan_in))
        else:
            nn.init.xavier_uniform_(self.F)
        if self.bias is not None:
            bound = 0.0 if he else 1 / math.sqrt(self.fan_in)
            nn.init.uniform_(self.bias, -bound, bound)

    @property
    def weight(self) -> Tensor:
        """The weight H, laid out as the ordinary layer's."""
        if torch.compiler.is_compiling():
            return self._form()
        if self.training or torch.is_grad_enabled():
            self._kept = None
            return self._form()
        A, F, kept = self.A, self.F, self._kept
        if not (_is_ordinary(A) and _is_ordinary(F)):
            return self._form()
        if kept is not None and kept.stands_for(A, F):
            return kept.weight
        weight = self._form()
        if type(weight) is Tensor and not is_traced(weight):
            self._kept = _Kept(weight, (A, F), (A.detach(), F.detach()), _state(A, F, weight))
        return weight

    def _form(self) -> Tensor:
        if self.n == 1:
            return self._laid_out(self.F[0])
        device = self.F.device.type
        if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
            return self._laid_out(sum_products(self.A, self.F))
        with torch.autocast(device, enabled=False):  # n products are summed: in full precision
            return self._laid_out(sum_products(self.A, self.F))

    def _laid_out(self, weight: Tensor) -> Tensor:
        """Turn (outputs, inputs, kernel) into the ordinary layer's layout."""
        return weight

    def train(self, mode: bool = True) -> HypercomplexLayer:
        """Set training or evaluation mode; the kept weight is dropped."""
        self._kept = None
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._kept = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}

    def extra_repr(self) -> str:
        """Return what distinguishes the layer, for ``repr``."""
        outputs, inputs = (self.n * size for size in self.F.shape[1:3])
        return f"{inputs}, {outputs}, n={self.n}, algebra={self.algebra!r}, bias={self.bias is not None}"


def is_traced(tensor: Tensor) -> bool:
    """Return whether a tensor's numbers may not be looked at: inside vmap, torch.func.grad, compilation or export."""
    return torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def _is_ordinary(tensor: Tensor) -> bool:
    """Whether a tensor may outlive the call: none of vmap's, grad's, tracing's or inference mode's."""
    return type(tensor) in (Tensor, nn.Parameter) and not is_traced(tensor) and not tensor.is_inference()


def _state(A: Tensor, F: Tensor, weight: Tensor) -> tuple[Any, ...]:
    """All that changes whenever the weight may have."""
    version = None if weight.is_inference() else weight._version
    places = (A.data_ptr(), F.data_ptr())
    return (A._version, F._version, *places, version, _steps[0], torch.is_inference_mode_enabled())
