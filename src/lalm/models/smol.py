"""The embedded model `smol`: Whisper base and SmolLM2-135M-Instruct as one plain local folder.

    $LALM_HOME/models/smol/
      speech/          WhisperForConditionalGeneration, tokenizer, feature extractor
      language_model/  LlamaForCausalLM, tokenizer with its chat template
      lalm.json        format, where the weights came from (sha256), licences, sizes of all files

The folder is made once from pinned artifacts and needs no network afterwards. It is built beside its place and moved
there whole, so a folder that exists is complete; one whose files do not have the noted sizes is named and made anew.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lalm.errors import ModelError
from lalm.models import parts
from lalm.models.fetch import Fetched, fetch, lalm_home, pinned
from lalm.models.parts import quiet_libraries

if TYPE_CHECKING:
    from transformers import (
        PreTrainedModel,
        PreTrainedTokenizerBase,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

FORMAT = 1
ARTIFACTS = ("whisper-base", "smollm2-135m-instruct")
MARKER = "lalm.json"
NEEDED_BYTES = 1_200_000_000  # a wheel, the members of all wheels and the result are there for a moment


def smol_folder() -> Path:
    """The folder of the embedded model, made on first use (about 240 MB fetched, 0.7 GB kept); silent afterwards.

    Raises UserError when the weights cannot be fetched, or when the disk is full or not writable.
    """
    folder = lalm_home() / "models" / "smol"
    if _problem(folder) is None:
        return folder
    with _disk_errors(folder), _lock(folder):
        problem = _problem(folder)  # another process may have finished it meanwhile
        if problem is not None:
            _make(folder, problem)
    return folder


def _make(folder: Path, problem: str) -> None:
    def say(message: str) -> None:
        print(f"lalm: {message}", file=sys.stderr, flush=True)

    if folder.exists():
        say(f"{folder} is not usable ({problem}); it is made anew.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if free < NEEDED_BYTES:
        raise OSError(errno.ENOSPC, f"{free / 1e9:.1f} GB are free, {NEEDED_BYTES / 1e9:.1f} GB are needed")
    say(f"first use: making the embedded model in {folder}")
    downloads = lalm_home() / "downloads"
    fetched = {name: fetch(pinned()[name], downloads, say) for name in ARTIFACTS}
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    say("converting to safetensors")
    with quiet_libraries():
        _save_speech(fetched["whisper-base"], part / "speech")
        _save_language_model(fetched["smollm2-135m-instruct"], part / "language_model")
        _write_marker(part, fetched)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)
    shutil.rmtree(downloads, ignore_errors=True)
    kept = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    say(f"the embedded model is ready ({kept / 1e6:.0f} MB); no network is needed from now on.")


def _save_speech(fetched: Fetched, folder: Path) -> None:
    """Kept as float16, as the wheel holds it."""
    from transformers import WhisperFeatureExtractor

    from lalm.models.whisper import whisper_model, whisper_tokenizer

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


def _save_language_model(fetched: Fetched, folder: Path) -> None:
    """Kept as float32: the unpacked Q4_1 values, unrounded, and the fastest to load."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    if fetched.source == "packages":
        gguf = fetched.files["SmolLM2-135M-Instruct.Q4_1.gguf"]
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        # The GGUF file says only "smollm"; the official tokenizer splits digits before the byte-level step.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that no setting turns off
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
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


def _write_marker(folder: Path, fetched: dict[str, Fetched]) -> None:
    artifacts = pinned()
    marker = {
        "format": FORMAT,
        "name": "smol",
        "artifacts": {
            name: {"title": artifacts[name].title, "licence": artifacts[name].licence, **one.provenance}
            for name, one in fetched.items()
        },
        "sizes_bytes": {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
    }
    (folder / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")


def _problem(folder: Path) -> str | None:
    """Why the folder cannot be used, or None. Sizes only: a full checksum at each start would cost seconds."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        found_format, sizes = marker["format"], dict(marker["sizes_bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{MARKER} is missing or unreadable"
    if found_format != FORMAT:
        return f"{MARKER} has format {found_format}, this version reads {FORMAT}"
    for name, size_bytes in sizes.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size_bytes:
            return f"{name} has {path.stat().st_size} bytes, not {size_bytes}"
    return None


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One process makes the folder; others wait for it. The system drops the lock of a process that dies."""
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        yield


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"The embedded model cannot be made in {folder}: {error}. Nothing half-made is used. The folder must be "
            f"writable with {NEEDED_BYTES / 1e9:.1f} GB free; make room, or set LALM_HOME to another disk."
        ) from error


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
