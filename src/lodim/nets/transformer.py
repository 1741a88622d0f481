r"""A small pre-norm Transformer: the encoder for sequences, and a classifier of images that cuts them into patches.

Layers are named ``blocks.0.attn.q`` and so on, see :mod:`lodim.nets.blocks`. Weights start normal with deviation
0.02, biases at zero.

Sources: A. Vaswani and others, arXiv 1706.03762 (attention); A. Dosovitskiy and others, arXiv 2010.11929 (patches).
Departure: classes are read off the mean of the tokens, not off a token of its own.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from lodim.nets.blocks import START_DEVIATION, Attention, Block, initialise
from lodim.validation import check_counts, check_fraction, check_in_range, checked

__all__ = ["Attention", "TransformerEncoder", "VisionTransformer", "vit"]


@checked
class TransformerEncoder(nn.Module):
    """A stack of pre-norm blocks and a last normalisation; it knows no positions.

    Parameters
    ----------
    width : int
        Of a token; a multiple of ``heads``.
    depth : int
        Number of blocks.
    mlp_ratio : float
        Hidden width of a block's two-layer network over ``width``.
    dropout : float
        After attention and in and after the two-layer network, in training.

    Raises
    ------
    ValueError
        Numbers out of range, or ``heads`` not dividing ``width``.
    """

    def __init__(
        self,
        width: int,
        depth: int = 4,
        heads: int = 4,
        mlp_ratio: int | float = 4.0,
        dropout: float | int = 0.0,
    ) -> None:
        super().__init__()
        check_counts(width=width, depth=depth, heads=heads)
        width, depth, heads = int(width), int(depth), int(heads)
        hidden = round(width * check_in_range(mlp_ratio, "mlp_ratio", low=1 / width, high=1e4))
        rate = check_fraction(float(dropout), "dropout")
        self.blocks = nn.ModuleList(Block(width, heads, hidden, rate) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.apply(initialise)

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """Encode a batch of sequences."""
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


@checked
class VisionTransformer(nn.Module):
    """Image, patches, encoder, mean of the tokens, classes.

    Parameters
    ----------
    image_shape : tuple of int
        Channels, height, width; multiples of ``patch``.
    patch : int
        Height and width of a patch; each becomes a token.
    width, depth, heads, mlp_ratio, dropout
        See :class:`TransformerEncoder`.
    positions : bool
        Whether each place has an embedding of its own. Without, the order of the patches means nothing.

    Raises
    ------
    ValueError
        ``patch`` does not divide the image, or as :class:`TransformerEncoder`.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...] = (1, 28, 28),
        n_classes: int = 10,
        *,
        patch: int = 7,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        mlp_ratio: int | float = 4.0,
        dropout: float | int = 0.0,
        positions: bool = True,
    ) -> None:
        super().__init__()
        check_counts(n_classes=n_classes, patch=patch, width=width)
        if len(image_shape) != 3 or any(size < 1 for size in image_shape):
            raise ValueError(f"image_shape must be (channels, height, width), got {image_shape}")
        channels, height, breadth = (int(s) for s in image_shape)
        if height % patch or breadth % patch:
            raise ValueError(
                f"patches of {patch} do not divide an image of {height} x {breadth}; choose another patch, or "
                "resize to another image_shape"
            )
        self.image_shape, self.patch = (channels, height, breadth), int(patch)
        tokens = (height // patch) * (breadth // patch)
        self.embed = nn.Linear(channels * patch**2, width)
        self.positions = nn.Parameter(torch.empty(tokens, width)) if positions else None
        self.encoder = TransformerEncoder(width, depth, heads, mlp_ratio, dropout)
        self.head = nn.Linear(width, n_classes)
        for layer in (self.embed, self.head):
            initialise(layer)
        if self.positions is not None:
            nn.init.normal_(self.positions, std=START_DEVIATION)

    def patches(self, images: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "batch tokens numbers"]:
        """Cut images, as they are or flattened, into patches, row by row."""
        images = images.reshape(-1, *self.image_shape)
        return nn.functional.unfold(images, self.patch, stride=self.patch).transpose(1, 2)

    def forward(self, images: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "batch classes"]:
        """Return the classes' logits of images, as they are or flattened."""
        tokens = self.embed(self.patches(images))
        if self.positions is not None:
            tokens = tokens + self.positions
        return self.head(self.encoder(tokens).mean(1))


@checked
def vit(
    image_shape: tuple[int, ...] = (1, 28, 28), n_classes: int = 10, **options: int | float | bool
) -> VisionTransformer:
    """Return a small :class:`VisionTransformer`: four blocks of width 128 on patches of 7 x 7 by default.

    Examples
    --------
    >>> import torch
    >>> vit((1, 28, 28), 10, depth=2, width=32)(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 10])
    """
    return VisionTransformer(image_shape, n_classes, **options)  # type: ignore[arg-type]
