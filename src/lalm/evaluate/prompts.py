"""How well recorded prompts are heard, by language: the CTC head alone beside Whisper base's own decoder on the same files.

    python -m lalm.evaluate.prompts SOUNDS TEXTS --language fr

`SOUNDS` is a folder of recordings, `TEXTS` what they say, a line `name: text` each, plain or gzipped, as in Debian's packages
`asterisk-core-sounds-LANGUAGE-wav` (its folder below `/usr/share/asterisk/sounds`) and `asterisk-core-sounds-LANGUAGE` (its
`core-sounds-LANGUAGE.txt.gz` below `/usr/share/doc`). Both hearings come from one pass of the encoder. With `--engine pico` the texts
of the same prompts are heard as that engine speaks them, its voices in turn.

Words are compared as the metric `wer` does, numbers spelled out and accents left out of account on both sides (the Spanish texts
are written without them).
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lalm import plugins
from lalm.connectors import ctc
from lalm.connectors._numbers import LANGUAGES
from lalm.connectors._plain import plain_words
from lalm.errors import ConfigError, DataError, UserError
from lalm.evaluate.stats import interval
from lalm.metrics import wer
from lalm.records import Reading
from lalm.speak.clips import Clip, keep
from lalm.speak.engines import plain_voices

MIN_WORDS, MAX_WORDS = 2, 14
BATCH_SIZE = 8
NUM_RESAMPLES = 2000
CTC, DECODER = "ctc", "whisper_decoder"


def read_prompts(sounds: Path, texts: Path) -> list[tuple[Path, str]]:
    """Recordings of `MIN_WORDS` to `MAX_WORDS` words and their texts, by name. Raises DataError if there are none.

    Texts in brackets describe sounds, and lines that begin with a semicolon are comments.
    """
    try:
        raw = texts.read_bytes()
        content = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{texts}: cannot be read ({error}).") from error
    found = {}
    for line in content.splitlines():
        name, colon, text = line.partition(":")
        recording = sounds / f"{name.strip()}.wav"
        said = text.strip()
        if not colon or line.startswith(";") or set(said) & set("[]<>()"):
            continue
        if MIN_WORDS <= len(said.split()) <= MAX_WORDS and recording.is_file():
            found[recording] = said
    if not found:
        raise DataError(f"{sounds}: holds no .wav that {texts} has a text of {MIN_WORDS} to {MAX_WORDS} words for.")
    return sorted(found.items())


def heard(files: Sequence[Path], language: str, cfg: ctc.Config | None) -> dict[str, list[str]]:
    """What the decoder of Whisper base hears in each file, and what the head does (None: no head)."""
    import torch

    from lalm.backbones._encoder import AudioEncoder
    from lalm.connectors._whisper_decoder import WhisperDecoder
    from lalm.models import smol

    folder = smol.smol_folder()
    whisper = smol.load_speech(folder)
    taps = (ctc.TAP, len(whisper.model.encoder.layers))
    encoder = AudioEncoder(whisper.model.encoder, smol.load_feature_extractor(folder), taps)
    decoder = WhisperDecoder(whisper, smol.load_speech_tokenizer(folder), language)
    width = encoder.width
    head = None if cfg is None else ctc.build(width, 0, cfg).eval()
    found: dict[str, list[str]] = {DECODER: []} if head is None else {CTC: [], DECODER: []}
    with torch.inference_mode():
        for start in range(0, len(files), BATCH_SIZE):
            frames, mask = encoder.frames(files[start : start + BATCH_SIZE])
            found[DECODER] += decoder.transcribe(frames[..., width:], mask)
            if head is not None:
                found[CTC] += [best[0][0] for best in head.best_texts(frames[..., :width], mask)]
    return found


def compared(texts: Sequence[str], hearings: Mapping[str, Sequence[str]], language: str) -> dict[str, Any]:
    """Word error rate with its 95 % interval of each hearing; `ratio`: the head's over the decoder's, over the same prompts."""
    result: dict[str, Any] = {"language": language, "recordings": len(texts)}
    tables = {}
    for name, said in hearings.items():
        counts = [
            wer.count(
                Reading(None, _plain(gold, language), language=language),
                Reading(None, _plain(one, language), language=language),
            )
            for gold, one in zip(texts, said, strict=True)
        ]
        tables[name] = table = np.array([one for one in counts if one is not None])
        value, low, high = interval(table, wer.reduce, NUM_RESAMPLES, seed=0)
        result[name] = {"wer": value, "low": low, "high": high, "words": int(table[:, 1].sum())}
    if CTC in tables and result[DECODER]["wer"]:
        value, low, high = interval(np.hstack([tables[CTC], tables[DECODER]]), _ratio, NUM_RESAMPLES, seed=0)
        result["ratio"] = {"value": value, "low": low, "high": high}
    return result


def spoken_by(engine: str, texts: Sequence[str], language: str, folder: Path) -> list[Path]:
    """The texts as an engine speaks them, its voices in turn, as files in `folder`.

    Raises ConfigError for an engine that there is not or that does not speak the language, and as `keep` does.
    """
    module = plugins.load("synth", engine)
    voices = plain_voices(module, language)
    if not voices:
        known = ", ".join(module.languages(module.Config()))
        raise ConfigError(f"--engine {engine} has no voice of '{language}'; it speaks {known}.")
    clips = [Clip(text, engine, voices[number % len(voices)], language) for number, text in enumerate(texts)]
    for clip in clips:
        keep(clip, folder)
    return [clip.path(folder) for clip in clips]


def _ratio(counts: np.ndarray) -> np.ndarray:
    """Of two error rates, from counts [..., errors, words, errors, words]."""
    return wer.reduce(counts[..., :2]) / wer.reduce(counts[..., 2:])


def _plain(text: str, language: str) -> str:
    marked = unicodedata.normalize("NFD", plain_words(text, language))
    return "".join(letter for letter in marked if not unicodedata.combining(letter))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the error rates as JSON."""
    parser = argparse.ArgumentParser(prog="python -m lalm.evaluate.prompts", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sounds", type=Path, help="folder of recordings")
    parser.add_argument("texts", type=Path, help="what they say, a line `name: text` each")
    parser.add_argument("--language", choices=LANGUAGES, required=True)
    parser.add_argument(
        "--phones", choices=sorted(ctc.VOCABULARIES), default="multilingual", help="what the head writes"
    )
    parser.add_argument("--weights", type=Path, help="the head's weights (none: those that come along)")
    parser.add_argument("--decoder-alone", action="store_true", help="Whisper's decoder, without a head")
    parser.add_argument("--limit", type=int, help="only so many recordings, evenly spread")
    parser.add_argument("--engine", help="the same texts as this engine speaks them (`pico`), not the recordings")
    parser.add_argument("--out", type=Path, help="file for what was heard, one JSON row a recording")
    args = parser.parse_args(argv)
    try:
        prompts = read_prompts(args.sounds, args.texts)
        prompts = prompts[:: max(1, -(-len(prompts) // args.limit))] if args.limit else prompts
        cfg = None
        if not args.decoder_alone:
            cfg = ctc.Config(phones=args.phones, language=args.language, weights=args.weights)
        files, texts = [path for path, _ in prompts], [text for _, text in prompts]
        with tempfile.TemporaryDirectory() as folder:
            sources = spoken_by(args.engine, texts, args.language, Path(folder)) if args.engine else files
            hearings = heard(sources, args.language, cfg)
    except UserError as error:
        print(f"lalm: {error}", file=sys.stderr)
        return 2
    if args.out is not None:
        from lalm.rundir import write_jsonl

        write_jsonl(
            args.out,
            (
                {"file": path.name, "text": text, **{name: said[row] for name, said in hearings.items()}}
                for row, (path, text) in enumerate(prompts)
            ),
        )
    source = {"engine": args.engine} if args.engine else {}
    print(json.dumps({**source, **compared(texts, hearings, args.language)}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
