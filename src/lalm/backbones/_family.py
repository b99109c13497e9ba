"""What the backbones of one `transformers` class each have in common, and what each of them adds: options and a family.

No torch here: a recipe is checked without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from lalm.plugins import PluginConfig

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

SAMPLE_RATE_HZ = 16_000

Message = dict[str, Any]
Messages = list[Message]


class NativeConfig(PluginConfig):
    """Options that all these backbones share; each names its own `model`."""

    model: str = Field(min_length=1, description="hub id or local folder of the weights (safetensors)")
    revision: str | None = Field(
        None, description="commit, tag or branch of the hub repository (none: its main branch)"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="number format of the weights (auto: the one they were published in)"
    )
    max_audio_s: PositiveFloat | None = Field(
        None, description="cut longer recordings to so many seconds and count them (none: too long is an error)"
    )
    max_audio_vectors: PositiveInt | None = Field(
        None, description="vectors that the recordings of one row may take; more is an error (none: no bound)"
    )
    instruction_first: bool = Field(
        False,
        description="put the instruction before the recording or the sentence: what it takes is then computed once a step, not once a row",
    )
    trust_remote_code: bool = Field(False, description="run code that lies beside the weights")
    tiny: bool = Field(False, description="small random weights instead of the real ones: for tests of a recipe")
    seed: int = Field(0, description="seed of the tiny weights")


def user_turn(instruction: str, text: str | None) -> Messages:
    """One user turn, as in the study (arXiv 2509.15389): audio, then the instruction; or the sentence, a line break, it.

    `text` None stands for a recording.
    """
    if text is None:
        return [{"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": instruction}]}]
    return [{"role": "user", "content": [{"type": "text", "text": f"{text}\n{instruction}"}]}]


def one_user_turn(instruction: str, pieces: Sequence[str | None]) -> Messages:
    """One user turn: the instruction, a line break, and pieces of a dialogue, of which None is a recording."""
    parts: list[dict[str, str]] = [{"type": "text", "text": f"{instruction}\n"}]
    for piece in pieces:
        if piece is None:
            parts.append({"type": "audio"})
        elif parts[-1]["type"] == "text":
            parts[-1] = {"type": "text", "text": parts[-1]["text"] + piece}
        else:
            parts.append({"type": "text", "text": piece})
    return [{"role": "user", "content": parts}]


def own_processor(name: str) -> Callable[[Any], Any]:
    """How a processor class of `transformers` is loaded from the folder of a `models.parts.Part`."""

    def load(part: Any) -> Any:
        import transformers

        found = getattr(transformers, name)
        return found.from_pretrained(part.folder, local_files_only=True, trust_remote_code=part.remote_code)

    return load


def halved_twice(fe: Any, num_samples: int) -> int:
    """Positions of a clip after Whisper's second convolution and a pooling of two, as the processors count them."""
    return ((num_frames(fe, num_samples) - 1) // 2 + 1 - 2) // 2 + 1


def merged_by_four(fe: Any, num_samples: int) -> int:
    """Positions of a clip after Whisper's second convolution, four put together, as the processor counts them."""
    return ((num_frames(fe, num_samples) - 1) // 2 + 1 - 4) // 4 + 1


def num_frames(fe: Any, num_samples: int) -> int:
    """Mel frames, as a feature extractor's mask counts them."""
    return -(-num_samples // int(fe.hop_length))


def window_s(processor: Any) -> float:
    """The length that the feature extractor was made for, in seconds."""
    return float(processor.feature_extractor.chunk_length)


def whole_windows_s(processor: Any) -> float:
    """As many whole windows as the processor takes before it cuts, in seconds."""
    return processor.max_audio_len // window_s(processor) * window_s(processor)


@dataclass(frozen=True)
class Family:
    """What one family adds to the shared code. `fe` is its feature extractor; a clip is [num_samples] at 16 kHz.

    `num_placeholders(fe, num_samples)` tokens of the prompt are replaced by what the encoder makes of a clip, and
    `features(fe, clips)` are the arguments of the class's `forward` that bring the clips. `longest_s(processor)` is what
    the family can take (None: as much as the language model has positions for).
    """

    name: str
    model_types: tuple[str, ...]  # of config.json
    model_class: str  # in transformers
    licence: str  # of the weights that `Config.model` names
    load_processor: Callable[[Any], Any]  # from a models.parts.Part
    num_placeholders: Callable[[Any, int], int]
    features: Callable[[Any, Sequence[np.ndarray]], Mapping[str, Tensor]]
    longest_s: Callable[[Any], float | None]
    audio_encoder: str = "model.audio_tower"
    connector: tuple[str, ...] = ("model.multi_modal_projector",)
    language_model: str = "model.language_model"
    messages: Callable[[str, str | None], Messages] = field(default=user_turn)
    dialogue: Callable[[str, Sequence[str | None]], Messages] | None = field(
        default=one_user_turn
    )  # None: has no place
    chat_template: str | None = None  # where the published processor has none that transformers can render
    adapt: Callable[[Any], None] = field(default=lambda module: None)
    hear: Callable[[Any, Mapping[str, Tensor]], Tensor] = field(
        default=lambda module, features: module.model.get_audio_features(**features).pooler_output
    )
