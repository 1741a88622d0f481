r"""A small pre-norm Transformer: the encoder for sequences, and a classifier of images that cuts them into patches.

Each block adds attention and then a two-layer network to its input, both applied to the normalised input:

.. math::

    x \leftarrow x + \mathrm{Attn}(\mathrm{LN}(x)), \qquad x \leftarrow x + W_2\, \mathrm{gelu}(W_1\, \mathrm{LN}(x)).

Layers are named ``blocks.0.attn.q`` (``k``, ``v``, ``o``) and ``blocks.0.mlp.fc1`` (``fc2``), so that adapters,
quantisers and sparse layers find them by suffix. Weights start normal with deviation 0.02, biases at zero.

Sources: A. Vaswani and others, arXiv 1706.03762 (attention); A. Dosovitskiy and others, arXiv 2010.11929 (patches).
Departure: classes are read off the mean of the tokens, not off a token of its own.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from lodim.validation import check_fraction, check_in_range

__all__ = ["Attention", "TransformerEncoder", "VisionTransformer", "vit"]

_START_DEVIATION = 0.02


class Attention(nn.Module):
    """Multi-head self-attention.

    Parameters
    ----------
    width : int
        Of a token; a multiple of ``heads``.
    dropout : float
        Of the attention weights, in training.

    Raises
    ------
    ValueError
        ``heads`` does not divide ``width``.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width must be a multiple of heads, got {width} and {heads}")
        self.heads, self.dropout = heads, dropout
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """Let every token attend to all."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        rate = self.dropout if self.training else 0.0
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=rate)
        return self.o(mixed.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.drop(nn.functional.gelu(self.fc1(x))))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = Attention(width, heads, dropout), _Mlp(width, hidden, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attn(self.norm1(x)))
        return x + self.drop(self.mlp(self.norm2(x)))


class TransformerEncoder(nn.Module):
    """A stack of pre-norm blocks and a last normalisation; it knows no positions.

    Parameters
    ----------
    width : int
        Of a token.
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
        for value, name in ((width, "width"), (depth, "depth"), (heads, "heads")):
            check_in_range(value, name, low=1, integer=True)
        hidden = round(width * check_in_range(mlp_ratio, "mlp_ratio", low=1 / width))
        rate = check_fraction(float(dropout), "dropout")
        self.blocks = nn.ModuleList(_Block(width, heads, hidden, rate) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.apply(_initialise)

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """Encode a batch of sequences."""
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


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
        check_in_range(n_classes, "n_classes", low=1, integer=True)
        check_in_range(patch, "patch", low=1, integer=True)
        if len(image_shape) != 3 or any(size < 1 for size in image_shape):
            raise ValueError(f"image_shape must be (channels, height, width), got {image_shape}")
        channels, height, breadth = (int(s) for s in image_shape)
        if height % patch or breadth % patch:
            raise ValueError(f"patches of {patch} do not divide an image of {height} x {breadth}")
        self.image_shape, self.patch = (channels, height, breadth), int(patch)
        tokens = (height // patch) * (breadth // patch)
        self.embed = nn.Linear(channels * patch**2, width)
        self.positions = nn.Parameter(torch.empty(tokens, width)) if positions else None
        self.encoder = TransformerEncoder(width, depth, heads, mlp_ratio, dropout)
        self.head = nn.Linear(width, n_classes)
        for layer in (self.embed, self.head):
            _initialise(layer)
        if self.positions is not None:
            nn.init.normal_(self.positions, std=_START_DEVIATION)

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


def vit(
    image_shape: tuple[int, ...] = (1, 28, 28), n_classes: int = 10, **options: int | float | bool
) -> VisionTransformer:
    """Return a small :class:`VisionTransformer`: four blocks of width 128 on patches of 7 x 7 by default.

    Parameters
    ----------
    image_shape : tuple of int
        Channels, height, width.
    **options
        Of :class:`VisionTransformer`.

    Examples
    --------
    >>> import torch
    >>> vit((1, 28, 28), 10, depth=2, width=32)(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 10])
    """
    return VisionTransformer(image_shape, n_classes, **options)  # type: ignore[arg-type]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=_START_DEVIATION)
        nn.init.zeros_(module.bias)
