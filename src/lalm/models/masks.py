"""Attention masks from padding masks."""

from __future__ import annotations

import torch
from torch import Tensor


def additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Attention mask [B, 1, frames, frames] from a padding mask [B, frames] (True = real); None where nothing is padded."""
    if bool(mask.all()):
        return None
    zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
    return zeros[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
