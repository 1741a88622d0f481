r"""The discriminator of patches: a residual network that is told which part of the image it sees.

The three numbers of a patch, scale and offsets, are embedded (Fourier features, and a table of 1001 learned entries for
each number), mapped to h by two layers, and h multiplies the inputs c of the second convolution of every block,

.. math:: c \leftarrow c\, (1 + \tanh(A h)),

which is a light hyper-network: the weights depend on the patch. The same h is also projected onto the last features. A
patch of r pixels of an image of R has :math:`\log_2 R/r` blocks more, which do not shrink it, so that the network is as
deep as that for whole images. Groups of four are compared by their standard deviation, a remedy for collapse.

Source: I. Skorokhodov and others, 2022, arXiv 2206.10535, section 3.2; T. Karras and others, arXiv 1912.04958
(residual blocks, minibatch standard deviation); L. Mescheder and others, arXiv 1801.04406 (R1). Departures: pooling by
the mean of 2 x 2 pixels instead of a longer filter; tables start at zero; camera poses are optional and enter h.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.randomness import RandomState, build_seeded, root_seed
from lodim.shapes.epigraf.layers import EqualConv2d, EqualLinear, leaky
from lodim.shapes.epigraf.patches import Patch
from lodim.validation import check_choice, check_counts, check_in_range, checked

__all__ = ["PatchDiscriminator", "minibatch_std", "r1_penalty"]

MODULATIONS = ("hyper", "concat", None)
GROUP = 4
_STEPS = 1000
_LAST = 4


class PatchEmbedding(nn.Module):
    """Scale and offsets, and optionally camera poses, as one vector h."""

    frequencies: Tensor

    def __init__(self, width: int, table: int, with_poses: bool, pose_dropout: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(10), persistent=False)
        self.tables = nn.Parameter(torch.zeros(3, _STEPS + 1, table))
        self.pose_dropout = pose_dropout
        n_in = 3 * (2 * 10 + 1 + table)
        self.poses = EqualLinear(12, n_in) if with_poses else None
        self.mapping = nn.ModuleList([EqualLinear(n_in, width), EqualLinear(width, width)])

    def forward(self, patch: Patch, poses: Tensor | None) -> Float[Tensor, "n width"]:
        """Return h."""
        values = torch.cat([patch.scales[:, None], patch.offsets], 1).to(self.tables)
        angles = values[..., None] * self.frequencies
        entries = (values * _STEPS).round().long().clamp(0, _STEPS)
        learned = self.tables[torch.arange(3, device=values.device), entries]
        h = torch.cat([angles.sin(), angles.cos(), values[..., None], learned], 2).flatten(1)
        if self.poses is not None and poses is not None:
            known = torch.ones(len(h), 1).to(h)
            if self.training and self.pose_dropout:
                known = (torch.rand(len(h), 1).to(h) >= self.pose_dropout).to(h)
            h = h + known * self.poses(poses[:, :3].flatten(1).to(h))
        for layer in self.mapping:
            h = leaky(layer(h))
        return h


class Block(nn.Module):
    """Two convolutions beside a linear way past them; the second one's input is modulated."""

    def __init__(self, n_in: int, n_out: int, h_dim: int, down: bool) -> None:
        super().__init__()
        self.first, self.second = EqualConv2d(n_in, n_in), EqualConv2d(n_in, n_out)
        self.past = EqualConv2d(n_in, n_out, 1, bias=False)
        self.affine = EqualLinear(h_dim, n_in) if h_dim else None
        self.down = down

    def forward(self, x: Tensor, h: Tensor | None) -> Tensor:
        """Return the block's output, of half the size if ``down``."""
        y = leaky(self.first(x))
        if self.affine is not None and h is not None:
            y = y * (1 + torch.tanh(self.affine(h)))[:, :, None, None]
        y = leaky(self.second(y))
        if self.down:
            x, y = (nn.functional.avg_pool2d(part, 2) for part in (x, y))
        return (self.past(x) + y) / math.sqrt(2)


def minibatch_std(x: Float[Tensor, "n c h w"], group: int = GROUP) -> Float[Tensor, "n one h w"]:
    """Return, for each group of neighbours, the mean over features of their standard deviation, as a channel."""
    spread = [
        (part.var(0, unbiased=False) + 1e-8).sqrt().mean().expand(len(part))
        for part in x.to(torch.promote_types(x.dtype, torch.float32)).split(group)
        if len(part)
    ]
    return (
        torch.cat([torch.zeros(0, device=x.device), *spread])
        .to(x.dtype)[:, None, None, None]
        .expand(-1, 1, *x.shape[2:])
    )


@checked
class PatchDiscriminator(nn.Module):
    """Scores patches, higher for real ones.

    Parameters
    ----------
    patch_resolution, image_resolution : int
        Powers of two of at least 4; the first may equal the second.
    channels : int
        At the patch's resolution; twice as many at each half of it, up to ``max_channels``.
    modulation : {"hyper", "concat", None}
        How it is told the patch: by modulation as above; by three constant channels beside the colours; not at all.
    with_poses : bool
        Whether it is told the camera's pose as well (with "hyper"), left out at random with ``pose_dropout`` in
        training.
    embedding, table : int
        Sizes of h and of the learned entries of a patch's number.
    random_state : int, Generator or None
        Of the weights.
    """

    def __init__(
        self,
        patch_resolution: int = 32,
        image_resolution: int = 64,
        *,
        channels: int = 32,
        max_channels: int = 128,
        modulation: str | None = "hyper",
        with_poses: bool = False,
        pose_dropout: float | int = 0.5,
        embedding: int = 64,
        table: int = 32,
        random_state: RandomState = None,
    ) -> None:
        super().__init__()
        check_counts(channels=channels, max_channels=max_channels, embedding=embedding, table=table)
        check_choice(modulation, MODULATIONS, "modulation")
        pose_dropout = float(check_in_range(pose_dropout, "pose_dropout", low=0.0, high=1.0))
        for name, value in {
            "patch_resolution": patch_resolution,
            "image_resolution": image_resolution,
        }.items():
            if value < _LAST or 2 ** round(math.log2(value)) != value:
                raise ValueError(f"{name} must be a power of two of at least {_LAST}, got {value}")
        if patch_resolution > image_resolution:
            raise ValueError(
                f"a patch cannot have more pixels than the image: {patch_resolution} > {image_resolution}"
            )
        if with_poses and modulation != "hyper":
            raise ValueError(f'poses are told by modulation="hyper", not by {modulation!r}')
        self.patch_resolution, self.image_resolution = int(patch_resolution), int(image_resolution)
        self.modulation = modulation
        h_dim = int(embedding) if modulation == "hyper" else 0
        n_same = round(math.log2(image_resolution / patch_resolution))
        n_down = round(math.log2(patch_resolution / _LAST))
        widths = [min(channels * 2**i, max_channels) for i in range(n_down + 1)]

        def build() -> None:
            self.embedding = PatchEmbedding(h_dim, int(table), with_poses, pose_dropout) if h_dim else None
            self.colours = EqualConv2d(6 if modulation == "concat" else 3, widths[0], 1)
            blocks = [Block(widths[0], widths[0], h_dim, down=False) for _ in range(n_same)]
            blocks += [Block(widths[i], widths[i + 1], h_dim, down=True) for i in range(n_down)]
            self.blocks = nn.ModuleList(blocks)
            self.last = EqualConv2d(widths[-1] + 1, widths[-1])
            self.dense = EqualLinear(widths[-1] * _LAST**2, widths[-1])
            self.score = EqualLinear(widths[-1], 1)
            self.projection = EqualLinear(h_dim, widths[-1]) if h_dim else None

        build_seeded(build, root_seed(random_state))

    def forward(
        self,
        images: Float[Tensor, "n channels height width"],
        patch: Patch,
        poses: Float[Tensor, "n four four"] | None = None,
    ) -> Float[Tensor, " n"]:
        """Return the scores of patches, colours in [0, 1]; neighbours in groups of four share a patch."""
        side = self.patch_resolution
        if images.ndim != 4 or images.shape[1:] != (3, side, side):
            raise ValueError(f"images must be patches (n, 3, {side}, {side}), got {tuple(images.shape)}")
        if len(patch.scales) != len(images):
            raise ValueError(f"patch must be one an image, got {len(patch.scales)} for {len(images)}")
        if poses is not None and poses.shape != (len(images), 4, 4):
            raise ValueError(
                f"poses must be one an image, shape ({len(images)}, 4, 4), got {tuple(poses.shape)}"
            )
        x = 2 * images - 1
        if self.modulation == "concat":
            told = 2 * torch.cat([patch.scales[:, None], patch.offsets], 1).to(x) - 1
            x = torch.cat([x, told[:, :, None, None].expand(-1, -1, side, side)], 1)
        h = None if self.embedding is None else self.embedding(patch, poses)
        x = leaky(self.colours(x))
        for block in self.blocks:
            x = block(x, h)
        x = leaky(self.last(torch.cat([x, minibatch_std(x)], 1)))
        x = leaky(self.dense(x.flatten(1)))
        score = self.score(x)[:, 0]
        if self.projection is not None:
            score = score + (x * self.projection(h)).sum(1) / math.sqrt(x.shape[1])
        return score


def r1_penalty(scores: Float[Tensor, " n"], images: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """Return half the mean squared norm of the scores' gradient, which can be differentiated again.

    Colours count in [-1, 1], as in the papers' values of its weight, so that the gradient is half that by ``images``.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return (gradient / 2).square().flatten(1).sum(1).mean() / 2
