"""Destroying structure on purpose: shuffled pixels and shuffled labels.

The problem: does a network's intrinsic dimension measure the task, or an advantage of its architecture? Permuting the
pixels of all images alike leaves a fully connected network's task unchanged and takes the neighbourhoods from a
convolutional one. Giving samples each other's labels leaves nothing to learn but the labels themselves.

Source: C. Li et al., "Measuring the intrinsic dimension of objective landscapes" (arXiv 1804.08838), Sections 3.1 and
S5. Departure: labels move along one random cycle of the chosen samples, so exactly the stated number is reassigned and
the classes keep their sizes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lodim.validation import check_fraction

__all__ = ["shuffle_labels", "shuffle_pixels"]


def shuffle_pixels(X: Any, seed: int | np.integer = 0) -> Any:
    """Permute the pixels of every image by one fixed permutation.

    Parameters
    ----------
    X : ndarray or Tensor, shape (n, n_pixels), (n, height, width) or (n, channels, height, width)
        Pixels are the columns, or the positions of the last two axes (channels move together).
    seed : int
        Determines the permutation: training and test images take the same.

    Returns
    -------
    ndarray or Tensor
        A new array like X.

    Raises
    ------
    ValueError
        X with fewer than two or more than four axes.
    """
    if not 2 <= X.ndim <= 4:
        raise ValueError(
            f"X must have shape (n, pixels), (n, height, width) or (n, channels, height, width), got {X.shape}"
        )
    shape = tuple(X.shape)
    kept = shape[:1] if X.ndim == 2 else shape[:-2]
    flat = X.reshape(*kept, -1)
    order = np.random.default_rng(seed).permutation(flat.shape[-1])
    return flat[..., _like(order, X)].reshape(shape)


def shuffle_labels(y: Any, fraction: int | float = 1.0, seed: int | np.integer = 0) -> Any:
    """Give a fixed random part of the samples each other's labels.

    Parameters
    ----------
    y : array-like or Tensor, shape (n,)
    fraction : float
        ``round(fraction * n)`` samples are chosen, and each gets the label of another of them. The samples chosen
        for a smaller fraction are among those for a larger one.
    seed : int
        Determines which and how.

    Returns
    -------
    ndarray or Tensor, shape (n,)
        A new array; classes keep their sizes.

    Raises
    ------
    ValueError
        Labels with several axes, fraction outside [0, 1], or a single chosen sample (nothing to swap with).
    """
    labels = y.clone() if hasattr(y, "detach") else np.array(y)
    if labels.ndim != 1:
        raise ValueError(f"y must be 1-D (one label a sample), got shape {tuple(labels.shape)}")
    n_chosen = round(check_fraction(fraction, "fraction") * len(labels))
    if n_chosen == 1:
        raise ValueError(
            f"fraction {fraction} of {len(labels)} samples is one, which has nothing to swap with"
        )
    chosen = np.random.default_rng(seed).permutation(len(labels))[:n_chosen]
    labels[_like(chosen, labels)] = labels[_like(np.roll(chosen, 1), labels)]
    return labels


def _like(index: np.ndarray, array: Any) -> Any:
    """The index as a tensor on the array's device where the array is a tensor."""
    if not hasattr(array, "detach"):
        return index
    import torch

    return torch.as_tensor(index, device=array.device)
