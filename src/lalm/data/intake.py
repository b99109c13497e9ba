"""What an import gathers besides rows: sound that stood inside the files, closed lists of values, problems."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import soundfile

from lalm.data.ontology import Ontology
from lalm.data.problems import Problems

# how the formats that are read begin, and what such a file is called
_BEGINNINGS = ((b"RIFF", ".wav"), (b"RF64", ".wav"), (b"fLaC", ".flac"), (b"OggS", ".ogg"), (b"ID3", ".mp3"))
MAX_CLIP_BYTES = 512 * 1024 * 1024


class Intake:
    """Clips are written to `folder`, which is made with the first of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems = Problems()
        self.ontology: Ontology | None = None
        self.num_clips = 0

    def problem(self, where: str, what: str) -> None:
        """Note what is wrong, and where."""
        self.problems.append(f"{where}: {what}")

    def clip(self, name: str, content: bytes, where: str) -> Path | None:
        """Keep the bytes of a sound file as they are; its path, or None (and a problem) if they are no sound."""
        extension = _extension(content)
        if extension is None or len(content) > MAX_CLIP_BYTES:
            what = f"{len(content):,} bytes are more than is read" if extension else "is no WAV, FLAC, OGG or MP3"
            self.problem(where, f"the sound inside cannot be used: {what}.")
            return None
        path = self.new_path(name, extension)
        path.write_bytes(content)
        return path

    def samples(self, name: str, samples: np.ndarray, sample_rate_hz: int) -> Path:
        """Keep samples [num_samples] or [num_samples, channels] as a FLAC file; its path."""
        path = self.new_path(name, ".flac")
        soundfile.write(path, samples, sample_rate_hz, format="FLAC")
        return path

    def the_ontology(self) -> Ontology:
        """The ontology of the files; made when the first of its parts is found."""
        self.ontology = self.ontology or Ontology()
        return self.ontology

    def new_path(self, name: str, extension: str) -> Path:
        """A path for one more clip; the folder is made if it is not there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.num_clips += 1
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[-60:]
        return self.folder / f"{self.num_clips:06d}{'-' if plain else ''}{plain}{extension}"


def _extension(content: bytes) -> str | None:
    for beginning, extension in _BEGINNINGS:
        if content.startswith(beginning):
            return extension
    if len(content) > 2 and content[0] == 0xFF and content[1] & 0xE0 == 0xE0:
        return ".mp3"  # an MPEG frame without a tag before it
    try:
        return ".wav" if soundfile.info(io.BytesIO(content)).format == "WAVEX" else None
    except (soundfile.LibsndfileError, RuntimeError, TypeError):
        return None
