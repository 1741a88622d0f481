"""Whether a module can be trained as a batch of replicas (``torch.func.vmap``), and why not."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from lodim.validation import checked

__all__ = ["Vectorizable", "can_vectorize"]

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
_DROPOUTS = (nn.modules.dropout._DropoutNd, nn.RReLU)


@dataclass(frozen=True)
class Vectorizable:
    """An answer, true where it is yes, with its reason where it is no."""

    reason: str = ""

    def __bool__(self) -> bool:
        return not self.reason


@checked
def can_vectorize(model: nn.Module) -> Vectorizable:
    """Say whether :func:`~lodim.training.fit_replicas` can train this module, and if not, why.

    Replicas share the module's buffers and its code, so anything that writes a buffer or draws random numbers in its
    forward is out: batch normalisation, dropout, recurrent layers (which have no batching rule). The answer is true in
    an ``if``; otherwise its ``.reason`` says what is in the way and what to do.
    """
    for name, module in model.named_modules():
        label = f"{name or 'the module'} ({type(module).__name__})"
        if isinstance(module, _NORMS) and module.track_running_stats:
            return Vectorizable(f"{label} updates running statistics that replicas would share; use fit")
        drops = isinstance(module, _DROPOUTS) and getattr(module, "p", 1.0) > 0
        if drops or (isinstance(module, nn.MultiheadAttention) and module.dropout > 0):
            return Vectorizable(f"{label} draws random numbers in its forward; use fit, or set its rate to 0")
        if isinstance(module, nn.RNNBase):
            return Vectorizable(f"{label} has no batching rule; use fit")
        if any(isinstance(p, nn.parameter.UninitializedParameter) for p in module.parameters(False)):
            return Vectorizable(f"{label} is lazy, its shapes not known yet; run one forward first")
    return Vectorizable()
