"""Arithmetic of a training step and of answering: what a ratio of times could be if only this counted.

A multiplication and an addition are two operations. Frozen weights cost their forward pass and, where a gradient passes
through them, the same again; adapters cost three times their forward pass. Softmax, norms, positions and optimizer are
left out. Causal attention is counted over the positions that are seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WINDOW_FRAMES = 1500  # of an encoder that is given thirty seconds
# dense bfloat16 operations a second, as the makers' data sheets say, by the name that torch has for the card
BF16_PEAK = {
    "NVIDIA H100 80GB HBM3": 989.4e12,
    "NVIDIA H100 PCIe": 756.0e12,
    "NVIDIA H200": 989.4e12,
    "NVIDIA A100-SXM4-80GB": 312.0e12,
    "NVIDIA A100 80GB PCIe": 312.0e12,
}


@dataclass(frozen=True)
class Sizes:
    """Sizes of the parts. `adapter` and `connector`: trained weights, of the language model's layers and before them."""

    encoder_weights: int
    encoder_width: int
    encoder_layers: int
    llm_weights: int  # of its layers, adapters apart
    llm_width: int  # heads times their width
    llm_layers: int
    model_width: int
    vocabulary: int
    adapter: int


@dataclass(frozen=True)
class Load:
    """What one batch holds: frames of the encoder and positions of the language model, by row."""

    frames: Sequence[int]
    own: Sequence[int]  # positions of a row that it has for itself
    shared: int  # positions that all rows begin with
    answers: int  # tokens that the loss is taken on, of all rows


def encoder(sizes: Sizes, frames: Sequence[int]) -> float:
    """Operations of the frozen encoder on clips of so many frames each."""
    return sum(
        2.0 * sizes.encoder_weights * count + 4.0 * sizes.encoder_layers * sizes.encoder_width * count**2
        for count in frames
    )


def training(sizes: Sizes, load: Load, plain: bool) -> float:
    """Operations of one optimizer step after the encoder: forward and back.

    `plain`: each row holds the shared positions itself, is padded to the longest, and has logits at every position.
    """
    weights = 2 * 2.0 * sizes.llm_weights + 3 * 2.0 * sizes.adapter
    head = 2 * 2.0 * sizes.model_width * sizes.vocabulary
    attention = 3 * 4.0 * sizes.llm_layers * sizes.llm_width
    if plain:
        length = load.shared + max(load.own)
        positions = len(load.own) * length
        return positions * weights + len(load.own) * attention * length**2 / 2 + positions * head
    positions = load.shared + sum(load.own)
    seen = load.shared**2 / 2 + sum(own * load.shared + own**2 / 2 for own in load.own)
    return positions * weights + attention * seen + load.answers * head


def answering(sizes: Sizes, load: Load, num_new: int, plain: bool) -> float:
    """Operations of reading the prompts and writing `num_new` tokens a row; `load.own` is without the answers."""
    weights = 2.0 * (sizes.llm_weights + sizes.adapter)
    head = 2.0 * sizes.model_width * sizes.vocabulary
    attention = 4.0 * sizes.llm_layers * sizes.llm_width
    rows = len(load.own)
    if plain:
        length = load.shared + max(load.own)
        read = rows * (length * weights + attention * length**2 / 2)
        seen = rows * num_new * (length + num_new / 2)
    else:
        read = (load.shared + sum(load.own)) * weights
        read += attention * (load.shared**2 / 2 + sum(own * load.shared + own**2 / 2 for own in load.own))
        seen = sum(num_new * (load.shared + own + num_new / 2) for own in load.own)
    return read + rows * num_new * (weights + head) + attention * seen
