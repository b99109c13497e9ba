"""A conversation with a recording in it -> what `LalmForConditionalGeneration` reads. The same pieces as in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, ProcessorMixin

from lalm.backbones import _prompt
from lalm.backbones._listening import SAMPLE_RATE_HZ, Listening
from lalm.data import audio as audio_files

AUDIO_TOKEN = "<|audio|>"
Piece = list[int]


class LalmProcessor(ProcessorMixin):
    """Tokenizer and feature extractor of a composed model. `listening` says how a waveform is given to its encoder."""

    def __init__(
        self,
        feature_extractor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        listening: Mapping[str, Any] | None = None,
    ) -> None:
        self.listening = dict(listening or {})
        super().__init__(feature_extractor, tokenizer, chat_template=chat_template)

    def __call__(self, text: Any = None, audio: Any = None, **options: Any) -> BatchFeature:
        """Prompts that are rendered already, `<|audio|>` in place of a recording, and the recordings in order.

        `audio`: paths, or samples [num_samples] at 16 kHz, or a list of them. Returns `input_ids` and `attention_mask`
        [B, L], padded on the left, and `input_features` with `input_features_mask` if there are recordings.
        Raises ValueError if prompts and recordings do not go together.
        """
        texts = [text] if isinstance(text, str) else list(text)
        return self._collate([self._pieces(one) for one in texts], _recordings(audio))

    def apply_chat_template(  # type: ignore[override]  # the conversations that it takes are fewer
        self, conversation: Any, chat_template: str | None = None, tokenize: bool = False, **options: Any
    ) -> Any:
        """One conversation or a list of them, as text or (with `tokenize`) as `__call__` returns it.

        The model answers one input under one instruction: the instruction is the system's turn or a text beside the
        recording in the user's turn; the input is the user's recording or words. The answer is always begun.
        Raises ValueError for any other conversation.
        """
        alone = bool(conversation) and isinstance(conversation[0], Mapping)
        asked = [_asked(one) for one in ([conversation] if alone else conversation)]
        if not tokenize:
            texts = ["".join(self._text(instruction, given)) for instruction, given in asked]
            return texts[0] if alone else texts
        rows = []
        for instruction, given in asked:
            before, middle, after = self._text(instruction, given)
            rows.append(self._pieces(before) + self._pieces(middle) + self._pieces(after))
        return self._collate(rows, [given for _, given in asked if not isinstance(given, str)])

    def _text(self, instruction: str, given: Any) -> tuple[str, str, str]:
        before, after = _prompt.around(self.tokenizer, instruction)
        return before, given if isinstance(given, str) else AUDIO_TOKEN, after

    def _pieces(self, text: str) -> Piece:
        """Tokens; what stands on the two sides of a recording is cut there first."""
        parts = text.split(AUDIO_TOKEN)
        ids = _prompt.ids(self.tokenizer, parts[0]) if parts[0] else []
        for part in parts[1:]:
            ids += [self.audio_token_id, *(_prompt.ids(self.tokenizer, part) if part else [])]
        return ids

    @property
    def audio_token_id(self) -> int:
        """The token that stands for a recording."""
        return int(self.tokenizer.convert_tokens_to_ids(AUDIO_TOKEN))

    def _collate(self, rows: Sequence[Piece], recordings: Sequence[Any]) -> BatchFeature:
        marks = sum(row.count(self.audio_token_id) for row in rows)
        if marks != len(recordings):
            raise ValueError(f"The prompts have {marks} {AUDIO_TOKEN} and there are {len(recordings)} recordings.")
        width = max(map(len, rows))
        padding = self.tokenizer.pad_token_id
        padding = self.tokenizer.eos_token_id if padding is None else padding
        ids = torch.tensor([[padding] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        batch = {"input_ids": ids, "attention_mask": mask}
        if recordings:
            names = [str(one) if isinstance(one, str | Path) else f"recording {n}" for n, one in enumerate(recordings)]
            waves = [_waveform(one) for one in recordings]
            features, feature_mask = Listening(**self.listening).collate(self.feature_extractor, waves, names)
            batch |= {"input_features": features, "input_features_mask": feature_mask}
        return BatchFeature(batch)

    @property
    def model_input_names(self) -> list[str]:
        """What the model reads."""
        return ["input_ids", "attention_mask", "input_features", "input_features_mask"]


def _recordings(audio: Any) -> list[Any]:
    if audio is None:
        return []
    if isinstance(audio, str | Path) or (isinstance(audio, np.ndarray) and audio.ndim == 1):
        return [audio]
    return list(audio)


def _waveform(recording: Any) -> np.ndarray:
    if isinstance(recording, str | Path):
        return audio_files.load(Path(recording), SAMPLE_RATE_HZ)
    return np.asarray(recording, dtype=np.float32)


def _asked(conversation: Sequence[Mapping[str, Any]]) -> tuple[str, Any]:
    """Instruction and input of a conversation; the input is text (a `str`), a `Path` or samples."""
    turns = [(str(turn["role"]), turn["content"]) for turn in conversation]
    if [role for role, _ in turns] not in (["user"], ["system", "user"]):
        raise ValueError(
            "A conversation is a system's turn (the instruction) and a user's turn (what is to be understood)."
        )
    texts, recordings = _contents(turns[-1][1])
    instruction = "".join(_contents(turns[0][1])[0]) if len(turns) == 2 else ""
    if len(recordings) == 1 and not (texts and instruction):
        return instruction or "".join(texts), recordings[0]
    if not recordings and texts:
        return instruction, "".join(texts)
    raise ValueError(
        "The user's turn holds one recording (with the instruction beside it if there is no system's turn) or text."
    )


def _contents(content: Any) -> tuple[list[str], list[Any]]:
    """Texts and recordings of a turn."""
    if isinstance(content, str):
        return [content], []
    texts, recordings = [], []
    for piece in content:
        if piece.get("type") == "text":
            texts.append(str(piece["text"]))
        elif piece.get("type") == "audio":
            found = next((piece[key] for key in ("audio", "path", "url") if key in piece), None)
            if found is None:
                raise ValueError("A piece of the type 'audio' brings it under 'audio' (a path, or samples at 16 kHz).")
            recordings.append(Path(found) if isinstance(found, str) else found)  # a bare str is text
        else:
            raise ValueError(f"A piece of the type {piece.get('type')!r} is neither text nor audio.")
    return texts, recordings
