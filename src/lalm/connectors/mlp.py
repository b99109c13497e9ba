"""Stacked frames through a two-layer perceptron: the plain trainable connector.

As in LLaVA-like audio models: `stack` neighbouring encoder frames are put side by side and projected to the language
model's width. It has to be trained with speech (group `connector`); as built it carries no knowledge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from lalm.plugins import PluginConfig


class Config(PluginConfig):
    """Options of the perceptron."""

    stack: PositiveInt = Field(
        5, description="encoder frames a vector (50 frames a second: 5 gives 10 vectors a second)"
    )
    seed: int = Field(0, description="seed of the initial weights")


class MlpConnector(nn.Module):
    """[frames, audio_width] -> [ceil(frames / stack), text_width]."""

    def __init__(self, audio_width: int, text_width: int, cfg: Config) -> None:
        super().__init__()
        self.stack = cfg.stack
        with torch.random.fork_rng():
            torch.manual_seed(cfg.seed)
            self.project = nn.Sequential(
                nn.Linear(audio_width * cfg.stack, text_width), nn.GELU(), nn.Linear(text_width, text_width)
            )
        self._fingerprint = hashlib.sha256(f"mlp frames {audio_width}".encode()).hexdigest()[:12]

    def bind(self, tokenizer: Any, embed_tokens: nn.Module) -> None:
        """Nothing of the language model is needed."""

    def prepare(self, frames: Tensor, frame_mask: Tensor) -> list[dict[str, np.ndarray]]:
        """The encoder frames of each item [frames, audio_width], float32."""
        return [{"frames": item["frames"].float().cpu().numpy()} for item in self.hand_on(frames, frame_mask)]

    def hand_on(self, frames: Tensor, frame_mask: Tensor) -> list[dict[str, Tensor]]:
        """As `prepare`, with gradients: for training the encoder too."""
        return [{"frames": f[m]} for f, m in zip(frames, frame_mask, strict=True)]

    def num_vectors(self, item: Mapping[str, np.ndarray]) -> int:
        """Stacked frames, the last one padded with zeros."""
        return -(-len(item["frames"]) // self.stack)

    def forward(self, prepared: Sequence[Mapping[str, np.ndarray | Tensor]]) -> tuple[Tensor, Tensor]:
        """Vectors [batch, length, text_width] and mask [batch, length]."""
        weight = self.project[0].get_parameter("weight")
        stacked = []
        for item in prepared:
            frames = torch.as_tensor(item["frames"], dtype=weight.dtype, device=weight.device)
            frames = nn.functional.pad(frames, (0, 0, 0, -len(frames) % self.stack))
            stacked.append(frames.reshape(-1, self.stack * frames.shape[1]))
        mask = nn.utils.rnn.pad_sequence(
            [torch.ones(len(item), dtype=torch.bool, device=weight.device) for item in stacked], batch_first=True
        )
        return self.project(nn.utils.rnn.pad_sequence(stacked, batch_first=True)), mask

    def as_heard(self, text: str, rng: Random) -> str:
        """Written text stays as it is."""
        return text

    def fingerprint(self) -> str:
        """Of what `prepare` does; the trained weights come after it."""
        return self._fingerprint


def build(audio_width: int, text_width: int, cfg: Config) -> MlpConnector:
    """A connector with seeded initial weights."""
    return MlpConnector(audio_width, text_width, cfg)
