"""A trained model as a function: what `lalm.load` gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lalm.config import Recipe
from lalm.contracts import Model
from lalm.data.grammar import Grammar
from lalm.errors import UserError
from lalm.evaluate.predict import load_run, predict_rows, run_grammar
from lalm.languages import DEFAULT, base
from lalm.records import Frame, Utterance
from lalm.rundir import RunDir, read_json

if TYPE_CHECKING:
    import numpy as np


class Understander:
    """A trained model as a function: recording in, frame out."""

    def __init__(
        self, recipe: Recipe, model: Model, grammar: Grammar | None = None, languages: Sequence[str] = (DEFAULT,)
    ) -> None:
        self._recipe, self._model, self._grammar, self._languages = recipe, model, grammar, languages

    @classmethod
    def from_run(cls, run: str | Path) -> Understander:
        """From a finished run folder. Raises UserError naming what is missing."""
        recipe, model = load_run(Path(run))
        folder = RunDir(Path(run))
        rows = read_json(folder.info).get("languages", {})
        trained_on = [language for language, numbers in rows.items() if any(numbers.values())]
        return cls(recipe, model, run_grammar(folder, recipe.evaluate), trained_on or (DEFAULT,))

    def __call__(
        self, recording: str | Path | np.ndarray, sample_rate_hz: int = 16_000, *, language: str | None = None
    ) -> Frame:
        """The frame of a recording: a path, or samples [num_samples] (or [num_samples, channels]) in -1..1.

        `sample_rate_hz` is that of the samples; a file says its own. `language` is what is spoken (none: the one that the
        run was trained on).
        Raises DataError for unreadable audio, UserError for a run whose task is not one over single recordings, for an
        unknown language, and without one for a run that was trained on several. An answer that cannot be parsed is a frame
        without an intent.
        """
        import tempfile

        import soundfile

        from lalm.data import audio
        from lalm.train.setup import task_examples

        spoken = self._spoken(language)
        if isinstance(recording, str | Path):
            samples = audio.load(Path(recording))
        else:
            samples = audio.mono(recording, sample_rate_hz, 16_000, "the recording")
        with tempfile.TemporaryDirectory() as folder:
            # a file of its own, since what was prepared of a recording is kept by its path while the model lives
            path = Path(folder) / "recording.wav"
            soundfile.write(path, samples, 16_000, subtype="FLOAT")
            # the label is there because some tasks make nothing of a row without one; nobody reads it
            asked = Utterance(path.name, audio=path, source="recorded", frame=Frame("-"), language=spoken)
            examples = task_examples(self._recipe, [asked])
            if not examples:
                raise UserError(
                    f"The task {self._recipe.task.name} of this run finds no intent and slots in a recording."
                )
            row = predict_rows(self._model, examples, self._recipe.evaluate, quiet=True, grammar=self._grammar)[0]
        return Frame.from_json(row["prediction"]) if row["prediction"] is not None else Frame(None)

    def _spoken(self, language: str | None) -> str:
        if language is not None:
            try:
                return base(language)
            except ValueError as error:
                raise UserError(f"language: {error}.") from None
        if len(self._languages) > 1:
            raise UserError(
                f"This run was trained on several languages ({', '.join(self._languages)}); say which one the recording is in, "
                f"as in understand(recording, language={self._languages[0]!r})."
            )
        return self._languages[0]
