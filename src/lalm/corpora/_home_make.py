"""Makes the corpus `home` anew: `python -m lalm.corpora._home_make OUT` (needs flite, espeak-ng and Kokoro's weights).

The sentences, their split, the voices and the variation are the same for the same seed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import soundfile
import soxr

from lalm import plugins
from lalm.corpora._home_grammar import RULES, sentences
from lalm.corpora.home import NUM_SENTENCES, NUM_SPOKEN
from lalm.data.manifest import write_manifest
from lalm.records import Frame, Utterance

SEED = 0
RATE_HZ = 16_000
SPEED = (0.85, 1.1)  # speaking rate, 1 is the voice's own
GAIN_DB = (-12.0, 0.0)
SNR_DB = (20.0, 40.0)
SILENCE_S = (0.1, 0.3)  # before and after
# (engine, voice, recordings of it); no engine is in both lists
TRAIN_VOICES = (
    ("flite", "slt", 28),
    ("flite", "rms", 28),
    ("flite", "awb", 24),
    ("flite", "kal16", 20),
    ("espeak_ng", "en-us+f2", 10),
    ("espeak_ng", "en-us+f3", 10),
    ("espeak_ng", "en-us+m3", 10),
    ("espeak_ng", "en-gb+m1", 10),
    ("espeak_ng", "en-gb+f4", 10),
)
TEST_VOICES = (("kokoro", "jm_kumo", 40), ("kokoro", "jf_tebukuro", 40), ("kokoro", "jf_gongitsune+jf_nezumi", 40))


@dataclass(frozen=True)
class Planned:
    """One sentence, its split, and who speaks it (None: nobody)."""

    id: str
    text: str
    frame: Frame
    split: str
    voice: tuple[str, str] | None


def plan(seed: int = SEED) -> list[Planned]:
    """The whole corpus without sound: splits even over intents, voices dealt out over the intents in turn."""
    rng = Random(seed)
    per_intent = {split: number // len(RULES) for split, number in NUM_SENTENCES.items()}
    spoken = {split: number // len(RULES) for split, number in NUM_SPOKEN.items()}
    groups: dict[str, list[tuple[str, Frame]]] = {intent: [] for intent in RULES}
    for text, frame in sentences(sum(per_intent.values()), seed):
        groups[str(frame.intent)].append((text, frame))
    for group in groups.values():
        rng.shuffle(group)
    planned: list[Planned] = []
    for split, voices in (("train", TRAIN_VOICES), ("test", TEST_VOICES)):
        dealt = _deal(voices, rng)
        start = 0 if split == "train" else per_intent["train"]
        for place in range(per_intent[split]):
            for group in groups.values():
                text, frame = group[start + place]
                voice = next(dealt) if place < spoken[split] else None
                planned.append(Planned(f"home-{len(planned):03d}", text, frame, split, voice))
    return planned


def _deal(voices: tuple[tuple[str, str, int], ...], rng: Random) -> Iterator[tuple[str, str]]:
    """Each voice as often as it is listed, in a seeded order."""
    all_of_them = [(engine, voice) for engine, voice, number in voices for _ in range(number)]
    rng.shuffle(all_of_them)
    return iter(all_of_them)


def make(out: Path, seed: int = SEED) -> int:
    """Write manifest and recordings into `out`; the number of rows."""
    (out / "audio").mkdir(parents=True, exist_ok=True)
    rows = []
    for index, item in enumerate(plan(seed)):
        row = Utterance(item.id, item.text, frame=item.frame, split=item.split)  # type: ignore[arg-type]
        rows.append(row if item.voice is None else _spoken(row, item.voice, out, np.random.default_rng([seed, index])))
        if index % 20 == 0:
            print(f"{index} sentences done", file=sys.stderr, flush=True)
    return write_manifest(out / "manifest.jsonl", rows)


def _spoken(row: Utterance, voice: tuple[str, str], out: Path, rng: np.random.Generator) -> Utterance:
    engine, name = voice
    module = plugins.load("synth", engine)
    speed, snr_db = round(rng.uniform(*SPEED), 2), round(rng.uniform(*SNR_DB), 1)
    cfg = plugins.configure(module, {"speed": speed}, engine)
    samples, rate = module.speak(row.text, name, row.language, cfg)
    samples = _in_a_room(soxr.resample(samples, rate, RATE_HZ), snr_db, rng)
    audio = out / "audio" / f"{row.id}.ogg"
    soundfile.write(audio, samples, RATE_HZ, format="OGG", subtype="OPUS", compression_level=0.92)
    return replace(
        row,
        audio=audio,
        speaker=f"{engine}/{name}",
        duration_s=round(len(samples) / RATE_HZ, 3),
        source="synthetic",
        meta={"engine": engine, "voice": name, "licence": module.LICENCE, "speed": speed, "snr_db": snr_db},
    )


def _in_a_room(samples: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Silence around the speech [num_samples], a seeded gain, and soft noise that falls by 3 dB an octave."""
    before, after = (int(rng.uniform(*SILENCE_S) * RATE_HZ) for _ in range(2))
    speech = np.pad(samples / max(1e-6, float(np.abs(samples).max())), (before, after))
    spectrum = np.fft.rfft(rng.standard_normal(len(speech)))
    noise = np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), len(speech))
    power = float(np.mean(np.square(samples / max(1e-6, float(np.abs(samples).max())))))
    noise *= np.sqrt(power / 10 ** (snr_db / 10) / np.mean(np.square(noise)))
    mixed = speech + noise
    return (0.9 * 10 ** (rng.uniform(*GAIN_DB) / 20) * mixed / np.abs(mixed).max()).astype(np.float32)


if __name__ == "__main__":
    print(f"{make(Path(sys.argv[1]))} rows")
