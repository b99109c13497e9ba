"""Whisper base as `transformers` describes it: its configuration, generation settings and tokenizer.

The numbers are those of the official multilingual checkpoint (Radford et al. 2022, table 1 and the released code).
They are written here, since neither the wheels nor a bare state dict hold them in the form that `transformers` reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lalm.models.fetch import Fetched

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration, WhisperTokenizer

END_OF_TEXT = 50257
START_OF_TRANSCRIPT = 50258
FIRST_LANGUAGE = 50259
NUM_LANGUAGES = 99
TRANSLATE = 50358
TRANSCRIBE = 50359
START_OF_PREVIOUS = 50361
NO_TIMESTAMPS = 50363
# Layer and head of the decoder whose attention follows the audio in time.
ALIGNMENT_HEADS = [[3, 1], [4, 2], [4, 3], [4, 7], [5, 1], [5, 2], [5, 4], [5, 6]]
# Punctuation, brackets, musical notes and control tokens that are never spoken.
# fmt: off
SUPPRESS_TOKENS = [
    1, 2, 7, 8, 9, 10, 14, 25, 26, 27, 28, 29, 31, 58, 59, 60, 61, 62, 63, 90, 91, 92, 93, 359, 503, 522, 542, 873,
    893, 902, 918, 922, 931, 1350, 1853, 1982, 2460, 2627, 3246, 3253, 3268, 3536, 3846, 3961, 4183, 4667, 6585,
    6647, 7273, 9061, 9383, 10428, 10929, 11938, 12033, 12331, 12562, 13793, 14157, 14635, 15265, 15618, 16553,
    16604, 18362, 18956, 20075, 21675, 22520, 26130, 26161, 26435, 28279, 29464, 31650, 32302, 32470, 36865, 42863,
    47425, 49870, 50254, 50258, 50358, 50359, 50360, 50361, 50362,
]
# fmt: on


def whisper_config() -> WhisperConfig:
    """Whisper base: 6 + 6 layers, width 512, 8 heads, 80 mel bins, 51,865 tokens."""
    from transformers import WhisperConfig

    return WhisperConfig(
        vocab_size=51865,
        num_mel_bins=80,
        d_model=512,
        encoder_layers=6,
        decoder_layers=6,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=2048,
        decoder_ffn_dim=2048,
        max_source_positions=1500,
        max_target_positions=448,
        bos_token_id=END_OF_TEXT,
        eos_token_id=END_OF_TEXT,
        pad_token_id=END_OF_TEXT,
        decoder_start_token_id=START_OF_TRANSCRIPT,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )


def generation_config(tokenizer: WhisperTokenizer) -> GenerationConfig:
    """What `generate(language=..., task=...)` needs to know of the multilingual model."""
    from transformers import GenerationConfig

    languages = tokenizer.convert_ids_to_tokens(list(range(FIRST_LANGUAGE, FIRST_LANGUAGE + NUM_LANGUAGES)))
    return GenerationConfig(
        alignment_heads=ALIGNMENT_HEADS,
        begin_suppress_tokens=[220, END_OF_TEXT],
        bos_token_id=END_OF_TEXT,
        decoder_start_token_id=START_OF_TRANSCRIPT,
        eos_token_id=END_OF_TEXT,
        is_multilingual=True,
        lang_to_id={token: FIRST_LANGUAGE + index for index, token in enumerate(languages)},
        max_initial_timestamp_index=50,
        max_length=448,
        no_timestamps_token_id=NO_TIMESTAMPS,
        pad_token_id=END_OF_TEXT,
        prev_sot_token_id=START_OF_PREVIOUS,
        return_timestamps=False,
        suppress_tokens=SUPPRESS_TOKENS,
        task_to_id={"transcribe": TRANSCRIBE, "translate": TRANSLATE},
    )


def whisper_tokenizer(tokenizer_file: Path) -> WhisperTokenizer:
    """The tokenizer of a `tokenizer.json`, prefix set to English transcription without time stamps."""
    from transformers import WhisperTokenizer

    return WhisperTokenizer(
        tokenizer_file=str(tokenizer_file),
        pad_token="<|endoftext|>",
        language="english",
        task="transcribe",
        predict_timestamps=False,
        model_max_length=448,
        clean_up_tokenization_spaces=False,
    )


def whisper_model(state: dict[str, torch.Tensor], tokenizer: WhisperTokenizer) -> WhisperForConditionalGeneration:
    """The whole model from a full state dict; a name too many or too few is an error."""
    from transformers import WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration(whisper_config())
    model.load_state_dict(state)
    model.generation_config = generation_config(tokenizer)
    return model.eval()


def save_whisper(fetched: Fetched, folder: Path) -> None:
    """Model, tokenizer and feature extractor from pinned files. Kept as float16, as the wheel holds it."""
    from transformers import WhisperFeatureExtractor

    tokenizer = whisper_tokenizer(fetched.files["tokenizer.json"])
    if fetched.source == "packages":
        from lalm.models.ctranslate2 import read_variables, whisper_state_dict

        parts = [fetched.files["model.bin.part1"], fetched.files["model.bin.part2"]]
        variables = read_variables(b"".join(part.read_bytes() for part in parts), "Whisper base (model.bin)")
        state = whisper_state_dict(variables)
    else:
        from safetensors.torch import load_file

        state = load_file(fetched.files["model.safetensors"])
        state.setdefault("proj_out.weight", state["model.decoder.embed_tokens.weight"])
    whisper_model(state, tokenizer).half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80, sampling_rate=16000, hop_length=160, n_fft=400).save_pretrained(folder)
