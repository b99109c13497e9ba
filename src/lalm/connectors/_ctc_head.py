"""A phone CTC head on Whisper base's encoder.

Whisper's last encoder layer is not used as it is: a copy of it is trained on, so that frames come to stand for sounds,
followed by one convolution and a softmax over phones and the CTC blank: 39 phones of English, or 56 of four languages. Why sounds: each is heard thousands of times in
any material, while word-like tokens need hours of speech for each, and letters need to know English spelling.
Everything below is frozen, so its frames can be kept on disk.
"""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoderLayer

from lalm.connectors._phones import VOCABULARY
from lalm.errors import ModelError
from lalm.models.masks import additive_mask

TAP = 5  # the head takes the input of Whisper base's last encoder layer
WIDTH = 512
KERNEL = 5


class CtcHead(nn.Module):
    """[batch, frames, 512] -> log-probabilities [batch, frames, symbols]; 4.5 million parameters."""

    def __init__(self, config: WhisperConfig, dropout: float = 0.1, vocabulary: tuple[str, ...] = VOCABULARY) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        config = copy.copy(config)
        config._attn_implementation = "eager"  # as transformers would choose for a layer alone, with a warning
        self.layer = WhisperEncoderLayer(config)
        self.norm = nn.LayerNorm(config.d_model)
        self.conv = nn.Conv1d(config.d_model, config.d_model, KERNEL, padding=KERNEL // 2)
        self.norm2 = nn.LayerNorm(config.d_model)
        self.out = nn.Linear(config.d_model, len(vocabulary))
        self.drop = nn.Dropout(dropout)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """frames [batch, frames, width], mask [batch, frames] (True = real) -> [batch, frames, phones], natural logs."""
        hidden = self.layer(frames, additive_mask(mask, frames.dtype))
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        hidden = self.norm(hidden) * mask[..., None]
        around = self.conv(self.drop(hidden).transpose(1, 2)).transpose(1, 2)
        logits = self.out(self.norm2(hidden + nn.functional.gelu(around)))
        return nn.functional.log_softmax(logits.float(), dim=-1)


def read_head(path: Path, config: WhisperConfig, vocabulary: tuple[str, ...], recipe: str) -> CtcHead:
    """The head with the weights of a safetensors file. Raises ModelError if it is missing or does not fit."""
    if not path.is_file():
        raise ModelError(f"{path}: the connector's weights are missing. Train them with: lalm align {recipe}")
    head = CtcHead(config, vocabulary=vocabulary)
    state = {name: tensor.float() for name, tensor in load_file(path).items()}
    wrong = sorted(set(state) ^ set(head.state_dict()))
    if wrong:
        raise ModelError(
            f"{path}: these are not the weights of this head ({len(wrong)} names differ, first {wrong[0]})."
        )
    if state["out.weight"].shape != head.out.weight.shape:
        raise ModelError(
            f"{path}: this head writes {len(state['out.weight'])} symbols, and backbone.connector.phones names a set of "
            f"{len(vocabulary)}."
        )
    head.load_state_dict(state)
    return head.eval()


def file_hash(path: Path) -> str:
    """Twelve hex digits of a file's sha256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def greedy_phones(log_probs: Tensor, vocabulary: tuple[str, ...] = VOCABULARY) -> str:
    """Best phone of each frame, repeats and blanks taken out; for logs and quick looks. log_probs [frames, phones]."""
    best = torch.unique_consecutive(log_probs.argmax(dim=-1)).tolist()
    return "".join(vocabulary[index] for index in best if index)
