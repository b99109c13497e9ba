"""Kokoro 82M through onnxruntime: natural speech from espeak-ng's phonemes, in 33 voices and mixtures of them.

English, and French, Spanish and Italian, which the model was trained to speak too, here in voices made for other languages.

Weights and voices Apache-2.0 (hexgrad/Kokoro-82M), pinned in models/artifacts.toml. The 28 voices made for English come
by npm, on first use of one of them; the five made for Japanese, which speak English sounds all the same, come with the
model. A mixture `a+b` is the mean of two style vectors, `a+b:0.25` a quarter of a.
"""

from __future__ import annotations

import functools
import json
import re
from itertools import combinations
from typing import Any

import numpy as np
from pydantic import Field, PositiveFloat

from lalm.models.voices import check_installed, onnx_session, phonemes, voice_files
from lalm.plugins import PluginConfig

LICENCE = "Apache-2.0"
SAMPLE_RATE_HZ = 24_000
MAX_PHONEMES = 500
ACCENTS = {"en": "en-us", "fr": "fr", "es": "es", "it": "it"}
JAPANESE = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")
ENGLISH = (
    "af_alloy", "af_aoede", "af_bella", "af_heart", "af_jessica", "af_kore", "af_nicole", "af_nova", "af_river",
    "af_sarah", "af_sky", "am_adam", "am_echo", "am_eric", "am_fenrir", "am_liam", "am_michael", "am_onyx", "am_puck",
    "am_santa", "bf_alice", "bf_emma", "bf_isabella", "bf_lily", "bm_daniel", "bm_fable", "bm_george", "bm_lewis",
)  # fmt: skip
STYLE_WIDTH = 256
# espeak-ng writes two letters where Kokoro's English has one (its README and its G2P's tables); longest first
_SPELLINGS = (
    ("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("dʒ", "ʤ"), ("tʃ", "ʧ"), ("eɪ", "A"), ("aɪ", "I"), ("ɔɪ", "Y"), ("oʊ", "O"),
    ("aʊ", "W"), ("əl", "ᵊl"), ("ɚ", "əɹ"), ("ɐ", "ə"), ("r", "ɹ"), ("x", "k"), ("ɾ", "T"), ("ʔ", "t"), ("e", "A"),
    ("ː", ""),
)  # fmt: skip
# what its makers change of espeak-ng's other languages (their G2P, `misaki`)
_SPELLINGS_OF_OTHERS = (
    ("dʒ", "ʤ"),
    ("tʃ", "ʧ"),
    ("ts", "ʦ"),
    ("dz", "ʣ"),
    ("aɪ", "I"),
    ("eɪ", "A"),
    ("aʊ", "W"),
    ("ɔɪ", "Y"),
    ("-", ""),
)
_CHANGES = re.compile(r"\([a-z]{2}\)")  # espeak-ng marks words of another language


class Config(PluginConfig):
    """Options of Kokoro."""

    speed: PositiveFloat = Field(1.0, description="speaking rate, 1 is the model's own")


def languages(cfg: Config) -> list[str]:
    """Those with a phoneme table here. Raises MissingExtraError without onnxruntime or the program espeak-ng."""
    check_installed("the synthesis engine kokoro")
    return list(ACCENTS)


def voices(language: str, cfg: Config) -> list[str]:
    """All voices, even mixtures of two and uneven ones; none for a language without a phoneme table here."""
    if language not in ACCENTS:
        return []
    names = (*ENGLISH, *JAPANESE)
    pairs = [f"{a}+{b}" for a, b in combinations(names, 2)]
    return [*names, *pairs, *(f"{pair}:{weight}" for pair in pairs for weight in ("0.25", "0.75"))]


def speak(text: str, voice: str, language: str, cfg: Config) -> tuple[np.ndarray, int]:
    """Mono float32 waveform [num_samples] and its rate in Hz (24,000). Raises MissingExtraError, ModelError."""
    session, vocabulary = _loaded()
    # b: made from British speakers, whose vowels espeak-ng's en-gb has
    accent = "en-gb" if voice.startswith("b") and language == "en" else ACCENTS[language]
    spoken = _CHANGES.sub("", phonemes(text, accent, "the synthesis engine kokoro"))
    for old, new in _SPELLINGS if language == "en" else _SPELLINGS_OF_OTHERS:
        spoken = spoken.replace(old, new)
    ids = [vocabulary[letter] for letter in spoken if letter in vocabulary][: MAX_PHONEMES - 1]
    ids.append(vocabulary[_end(text)])
    style = _style(voice)[min(len(ids), MAX_PHONEMES) - 1]
    inputs = {
        "tokens": np.array([[0, *ids, 0]], dtype=np.int64),
        "style": style.reshape(1, -1).astype(np.float32),
        "speed": np.array([cfg.speed], dtype=np.float32),
    }
    return np.asarray(session.run(None, inputs)[0], np.float32).ravel(), SAMPLE_RATE_HZ


def _end(text: str) -> str:
    """The mark that a sentence ends with: Kokoro was trained on whole sentences and mumbles one that does not end."""
    last = text.rstrip()[-1:]
    return last if last in ("!", "?") else "."


def _style(voice: str) -> np.ndarray:
    names, _, weight = voice.partition(":")
    first, _, second = names.partition("+")
    if not second:
        return _styles(first)
    share = float(weight or 0.5)
    return share * _styles(first) + (1 - share) * _styles(second)


@functools.cache
def _styles(name: str) -> np.ndarray:
    """Style vectors of one voice by number of phonemes [510, 256]."""
    if name in ENGLISH:
        stored = np.fromfile(voice_files("kokoro-english-voices")[f"{name}.bin"], dtype="<f4")
        return stored.reshape(-1, STYLE_WIDTH)
    with np.load(voice_files("kokoro-82m")["voices_ja.npz"], allow_pickle=False) as archive:
        return archive[name].reshape(-1, STYLE_WIDTH)


@functools.cache
def _loaded() -> tuple[Any, dict[str, int]]:
    files = voice_files("kokoro-82m")
    model = b"".join(files[f"model.onnx.part{number}"].read_bytes() for number in range(1, 5))
    vocabulary = json.loads(files["vocab.json"].read_text(encoding="utf-8"))["vocab"]
    return onnx_session(model, "the synthesis engine kokoro"), vocabulary
