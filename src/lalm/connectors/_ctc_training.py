"""The CTC head as a model that the training loop knows: rows are stored frames, the answer is its phones.

Loss: connectionist temporal classification (Graves et al. 2006) over phones, summed per row. In training, stretches
of frames are blanked out (as SpecAugment does with spectrograms, Park et al. 2019), so that the head reads context.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lalm.connectors._ctc_head import CtcHead, greedy_phones
from lalm.records import Example

Frames = Callable[[str], Tensor]  # id -> float16 frames [frames, width]
NUM_SPANS = 3
MAX_SPAN = 10  # frames: 0.2 s


class _Module(nn.Module):
    def __init__(self, head: CtcHead) -> None:
        super().__init__()
        self.connector = head


class CtcAlignment:
    """`contracts.Model` of the head alone; `frames` gives the stored frames of an example by its id."""

    def __init__(self, head: CtcHead, frames: Frames, lengths: Mapping[str, int]) -> None:
        self.head = head
        self._index = {letter: index for index, letter in enumerate(head.vocabulary)}
        self.module: nn.Module = _Module(head)
        self.peft: Any = None
        self.tokenizer: Any = None
        self.identity = {"connector": "ctc", "licences": {}}
        self._frames, self._lengths = frames, lengths
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)

    def groups(self) -> dict[str, tuple[str, ...]]:
        """One group: the head."""
        return {"connector": ("connector",)}

    def num_tokens(self, example: Example) -> int:
        """Frames of a row."""
        return self._lengths[example.id]

    def content(self, example: Example) -> str:
        """Hash of id and text; the frames behind an id do not change."""
        return hashlib.sha256(f"{example.id}/{example.answer}".encode()).hexdigest()[:16]

    def batch(self, examples: Sequence[Example]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Frames [rows, frames, width], mask [rows, frames], phones of each row."""
        rows = [self._frames(example.id).float() for example in examples]
        mask = nn.utils.rnn.pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in rows], batch_first=True)
        letters = [torch.tensor([self._index[letter] for letter in example.answer]) for example in examples]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True), mask, letters

    def loss(self, batch: tuple[Tensor, Tensor, list[Tensor]]) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood of each row's text [rows] and its number of phones [rows]."""
        frames, mask, letters = batch
        if self.module.training:
            frames = _blanked(frames, mask)
        log_probs = self.head(frames, mask)
        lengths = torch.tensor([len(row) for row in letters])
        nll = nn.functional.ctc_loss(
            log_probs.transpose(0, 1),
            torch.cat(letters),
            mask.sum(dim=1),
            lengths,
            reduction="none",
            zero_infinity=True,
        )
        return nll, lengths

    @torch.inference_mode()
    def generate(self, examples: Sequence[Example], max_new_tokens: int = 0, num_beams: int = 1) -> list[str]:
        """Best phone of each frame, without a search."""
        frames, mask, _ = self.batch(examples)
        log_probs = self.head(frames, mask)
        return [greedy_phones(row[real], self.head.vocabulary) for row, real in zip(log_probs, mask, strict=True)]


def _blanked(frames: Tensor, mask: Tensor) -> Tensor:
    kept = torch.ones_like(mask)
    for row, length in enumerate(mask.sum(dim=1).tolist()):
        for _ in range(NUM_SPANS):
            span = int(torch.randint(0, MAX_SPAN + 1, ()))
            start = int(torch.randint(0, max(1, length - span), ()))
            kept[row, start : start + span] = False
    return frames * kept[..., None]
