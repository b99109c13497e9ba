"""Material of an alignment: sentences spoken by engines, changed copies of them, and the encoder's frames of each copy.

Everything is decided by the recipe before anything is spoken, so work that was interrupted goes on where it stopped:

    speech/<engine>/<id>.flac    one clip a sentence, 16 kHz
    frames/<hash>.safetensors    float16 encoder frames [frames, width] of the copies of CHUNK clips, by copy id
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from lalm import plugins
from lalm.config import config_hash
from lalm.cores import on_all_cores
from lalm.data import audio
from lalm.data.augment import Augment, augment
from lalm.errors import UserError, nearest
from lalm.speak.clips import SAMPLE_RATE_HZ, spoken, trimmed
from lalm.train.align_recipe import AlignRecipe, sentences

CHUNK = 64


@dataclass(frozen=True)
class Clip:
    """One sentence to be spoken. `speed` 1 is the voice's own rate."""

    id: str
    text: str
    engine: str
    voice: str
    speed: float
    language: str
    copies: int
    dev: bool

    def path(self, folder: Path) -> Path:
        """Where its recording is kept."""
        return folder / "speech" / self.engine / f"{self.id}.flac"

    def copy_ids(self) -> list[str]:
        """Names of its copies."""
        return [f"{self.id}.{number}" for number in range(self.copies)]


def plan_clips(recipe: AlignRecipe, words: Callable[[str], Sequence[str]]) -> list[Clip]:
    """Every clip of the recipe, mixed over engines by a seeded draw; `words` of a language are the most frequent first.

    Raises UserError for a voice that is not there.
    """
    clips = []
    for number, source in enumerate(recipe.speech):
        engine = plugins.load("synth", source.engine)
        language = source.language or recipe.language
        known = engine.voices(language, engine.Config())
        voices = list(source.voices) if source.voices is not None else known
        missing = [voice for voice in voices if voice not in known]
        if missing or not voices:
            wanted = f"no voice {missing[0]!r}" if missing else f"no voice for {language!r}"
            raise UserError(f"The engine {source.engine} has {wanted}.{nearest((missing or [''])[0], known)}")
        rng = Random(f"{recipe.train.seed}/{number}")
        turn = cycle(voices)
        for name, count in source.texts.items():
            seed = f"{recipe.train.seed}/{number}/{name}"
            texts = sentences(recipe.texts[name], count, list(words(language)), seed, language)
            for text in texts:
                voice, speed = next(turn), round(rng.uniform(*source.speed), 3)
                # the id covers what is heard: a recording of other words or another voice is never taken for it
                made = f"{source.engine}/{voice}/{speed}/{language}/{text}"
                name_of_clip = hashlib.sha256(made.encode()).hexdigest()[:12]
                copies = 1 if source.dev else source.copies
                clips.append(Clip(name_of_clip, text, source.engine, voice, speed, language, copies, source.dev))
    Random(recipe.train.seed).shuffle(clips)
    return clips


def speak_clips(clips: Sequence[Clip], folder: Path) -> None:
    """Speak what is not there yet, on all cores."""
    todo = [clip for clip in clips if not clip.path(folder).is_file()]
    on_all_cores(functools.partial(_speak, folder=folder), todo, "speech")


def _speak(clip: Clip, folder: Path) -> None:
    samples = trimmed(spoken(clip.text, clip.engine, clip.voice, clip.language, clip.speed))
    audio.write_flac(clip.path(folder), samples, SAMPLE_RATE_HZ)


def encode_clips(clips: Sequence[Clip], folder: Path, cfg: Augment, taps: Sequence[int]) -> list[Path]:
    """Frames of all copies, on all cores; the files in order."""
    chunks = [tuple(clips[start : start + CHUNK]) for start in range(0, len(clips), CHUNK)]
    made = [
        config_hash([cfg.model_dump(), list(taps), [name for clip in chunk for name in clip.copy_ids()]])
        for chunk in chunks
    ]
    files = [folder / "frames" / f"{name}.safetensors" for name in made]
    todo = [(chunk, file) for chunk, file in zip(chunks, files, strict=True) if not file.is_file()]
    on_all_cores(functools.partial(_encode, folder=folder, cfg=cfg, taps=tuple(taps)), todo, "frames", _one_thread)
    return files


def _encode(item: tuple[tuple[Clip, ...], Path], folder: Path, cfg: Augment, taps: tuple[int, ...]) -> None:
    import torch
    from safetensors.torch import save_file

    chunk, file = item
    encoder = _encoder(taps)
    copies: list[tuple[str, np.ndarray]] = []
    for clip in chunk:
        samples = audio.load(clip.path(folder), SAMPLE_RATE_HZ)
        for name in clip.copy_ids():
            seed = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
            copies.append((name, augment(samples, SAMPLE_RATE_HZ, cfg, np.random.default_rng(seed))))
    copies.sort(key=lambda copy: len(copy[1]))
    frames: dict[str, Any] = {}
    with torch.inference_mode():
        for start in range(0, len(copies), 8):
            batch = copies[start : start + 8]
            states, mask = encoder.encode([samples for _, samples in batch], [name for name, _ in batch])
            for (name, _), state, real in zip(batch, states, mask, strict=True):
                frames[name] = state[real].half().contiguous()
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    save_file(frames, part)
    os.replace(part, file)


@functools.cache
def _encoder(taps: tuple[int, ...]) -> Any:
    from lalm.backbones._encoder import AudioEncoder
    from lalm.models import smol

    folder = smol.smol_folder()
    return AudioEncoder(smol.load_speech(folder).model.encoder, smol.load_feature_extractor(folder), taps)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
