"""Whisper-like audio: mel features of the frames that exist, and an encoder that takes them instead of thirty seconds.

Shapes: B clips, 128 mel bins, W mel frames (100 a second) of which the encoder makes W / 2 positions.

A clip's features are those of the clip padded with silence to thirty seconds, cut after a margin: the transform of a frame
looks 200 samples beyond it, the encoder's two convolutions three frames. Positions are absolute and the padding is masked in
attention, so what is made of the real frames is the same but for rounding; tested against the class itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling

from lalm.backbones._family import SAMPLE_RATE_HZ, num_frames
from lalm.data.spec_augment import FeatureChanges, altered

MARGIN = 4  # mel frames after the last real one


def windows(fe: Any, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Clips cut into windows of the extractor's thirty seconds, one clip after the other."""
    return [clip[start : start + fe.n_samples] for clip in clips for start in range(0, len(clip), fe.n_samples)]


def mel(fe: Any, clips: Sequence[np.ndarray], width: int | None = None) -> tuple[Tensor, Tensor]:
    """Features [B, 128, W] and mask [B, W] of clips of at most thirty seconds; W as small as may be, or `width`."""
    if width is None:
        longest = max(num_frames(fe, len(clip)) for clip in clips)
        width = min(fe.nb_max_frames, -(-(longest + MARGIN) // 4) * 4)  # the convolution and the pooling halve it each
    result = fe(
        list(clips),
        sampling_rate=SAMPLE_RATE_HZ,
        padding="max_length",
        max_length=width * fe.hop_length,
        truncation=False,
        return_attention_mask=True,
        return_tensors="pt",
    )
    return result["input_features"], result["attention_mask"]


def alter(fe: Any, values: Tensor, clips: Sequence[np.ndarray], changes: Sequence[FeatureChanges | None]) -> Tensor:
    """Features [rows, mel_bins, W] of clips, altered as their files say; a row is a clip, or a window of one."""
    rows = [1] * len(clips)
    if len(values) != len(clips):
        rows = [-(-len(clip) // fe.n_samples) for clip in clips]
    result, first = [], 0
    for clip, number, change in zip(clips, rows, changes, strict=True):
        own = values[first : first + number]
        first += number
        if change is not None:  # windows stand side by side: all but the last are full
            whole = own.transpose(0, 1).flatten(1).numpy()
            new = torch.from_numpy(altered(whole, num_frames(fe, len(clip)), change))
            own = new.unflatten(1, (number, -1)).transpose(0, 1)
        result.append(own)
    return torch.cat(result)


def take_short_clips(tower: Any, mask_of: Callable[[Any, Tensor, Tensor], Tensor | None]) -> None:
    """Let an encoder take W frames. `mask_of(tower, hidden, given mask)` makes its layers' mask.

    With all of its thirty seconds the class's own `forward` runs, as before.
    """
    own_forward = type(tower).forward
    whole = 2 * tower.config.max_source_positions

    def forward(self: Any, input_features: Tensor, *args: Any, **kwargs: Any) -> Any:
        if input_features.shape[-1] == whole:
            return own_forward(self, input_features, *args, **kwargs)
        given = args[0] if args else kwargs.get("attention_mask", kwargs.get("input_features_mask"))
        return BaseModelOutputWithPooling(last_hidden_state=_encode(self, input_features, given, mask_of))

    tower.forward = MethodType(forward, tower)


def _encode(tower: Any, features: Tensor, given: Any, mask_of: Callable[[Any, Tensor, Any], Tensor | None]) -> Tensor:
    """The encoder's own modules over W frames: [B, W / 4, width]."""
    weight = tower.conv1.weight
    hidden = nn.functional.gelu(tower.conv1(features.to(weight.device, weight.dtype)))
    hidden = nn.functional.gelu(tower.conv2(hidden)).transpose(1, 2)
    hidden = hidden + tower.embed_positions.weight[: hidden.shape[1]]
    hidden = nn.functional.dropout(hidden, p=tower.dropout, training=tower.training)
    mask = mask_of(tower, hidden, given)
    for layer in tower.layers:
        if tower.training and tower.layerdrop > 0 and torch.rand([]) < tower.layerdrop:
            continue
        hidden = layer(hidden, mask)
    return tower.layer_norm(tower.avg_pooler(hidden.transpose(1, 2)).transpose(1, 2))


def given_mask(tower: Any, hidden: Tensor, given: Tensor | None) -> Tensor | None:
    """The mask as it was given: the model around the encoder has made it."""
    return given


def mask_of_frames(tower: Any, hidden: Tensor, given: Tensor) -> Tensor | None:
    """From a mask of mel frames [B, W]."""
    lengths = (given.sum(dim=-1) - 1) // 2 + 1
    real = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
    return create_bidirectional_mask(config=tower.config, inputs_embeds=hidden, attention_mask=real)
