"""The loss over answer tokens: logits of so many at once as fit, computed again on the way back where there are more.

Vocabularies of 50,000 to 260,000 words make logits the largest tensor of a step even where answers alone have them: 1,280 answer
tokens before Gemma's 262,144 words are 1.3 GB, and the softmax, its gradient and a copy in float32 as much again each.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

AT_ONCE = 2**26  # logits, 0.27 GB of them in float32
Head = Callable[[Tensor], Tensor]


def answer_nll(head: Head, states: Tensor, targets: Tensor, vocabulary: int) -> Tensor:
    """Negative log-likelihoods [T], float32, of tokens `targets` [T] from last hidden states [T, D]; `head` makes logits."""
    size = max(1, AT_ONCE // vocabulary)
    if len(states) <= size:
        return _nll(head, states, targets)
    pieces = zip(states.split(size), targets.split(size), strict=True)
    return torch.cat([checkpoint(_nll, head, *piece, use_reentrant=False) for piece in pieces])


def _nll(head: Head, states: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(head(states).float(), targets, reduction="none")
