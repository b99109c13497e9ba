"""The loss over answer tokens: logits of so many at once as fit, computed again on the way back where there are more.

Vocabularies of 50,000 to 260,000 words make logits the largest tensor of a step even where answers alone have them: 1,280 answer
tokens before Gemma's 262,144 words are 1.3 GB, and the softmax, its gradient and a copy in float32 as much again each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

AT_ONCE = 2**26  # logits, 0.27 GB of them in float32
IN_CACHE = 2**18  # logits that are made float32 at once: they and their softmax stay in a processor's cache
Head = Callable[[Tensor], Tensor]


def answer_nll(head: Head, states: Tensor, targets: Tensor, vocabulary: int) -> Tensor:
    """Negative log-likelihoods [T], float32, of tokens `targets` [T] from last hidden states [T, D]; `head` makes logits."""
    size = max(1, AT_ONCE // vocabulary)
    if len(states) <= size:
        return _nll(head, states, targets)
    pieces = zip(states.split(size), targets.split(size), strict=True)
    return torch.cat([checkpoint(_nll, head, *piece, use_reentrant=False) for piece in pieces])


def _nll(head: Head, states: Tensor, targets: Tensor) -> Tensor:
    logits = head(states)
    if logits.dtype == torch.float32 or logits.device.type != "cpu":
        return nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    found: Tensor = _OfHalves.apply(logits, targets)
    return found


class _OfHalves(torch.autograd.Function):
    """Cross entropy [T], float32, of logits [T, V] in two bytes, computed in float32 a few tokens at a time.

    As the one of torch over a float32 copy of the logits, without that copy, its softmax and its gradient in memory.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        size = max(1, IN_CACHE // logits.shape[1])
        totals = torch.cat([piece.float().logsumexp(dim=-1) for piece in logits.split(size)])
        ctx.save_for_backward(logits, targets, totals)
        ctx.size = size
        return totals - logits.gather(1, targets[:, None])[:, 0].float()

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor, None]:
        logits, targets, totals = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        each = [one.split(ctx.size) for one in (logits, targets, totals[:, None], given[0][:, None], gradient)]
        for own, right, total, factor, out in zip(*each, strict=True):
            softmax = own.float().sub_(total).exp_()
            softmax[torch.arange(len(right)), right] -= 1
            out.copy_(softmax.mul_(factor))
        return gradient, None
