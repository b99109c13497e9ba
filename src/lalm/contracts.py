"""The whole extension surface on one page: what one file must hold to be a plug-in of each kind.

Besides the functions below every plug-in module holds a docstring (its first line is printed by `lalm ls`) and a
frozen `Config` (subclass of `plugins.PluginConfig`) whose every field has a description with its unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from lalm.data.grammar import Grammar
    from lalm.data.intake import Intake
    from lalm.records import Example, Pools, Reading, Stage, Utterance


class Corpus(Protocol):
    """`corpora/*`: reads a data set in its own layout.

    `LICENCE` says what it may be used for, where that is known; `licence(cfg)`, where it depends on the options. `PUBLISHED`, where there is such a thing, holds what others
    reached on it under noise: `metric`, `values` (name -> value of the metric), `snr_db` (lowest and highest ratio that the
    values are averages over), `source` and `differs` (in words: where from, and what is not alike in a run of ours).
    """

    def read(self, root: Path, split: str, cfg: Any) -> Iterable[Utterance]:
        """The rows of a split (`train`, `dev`, `test`): text rows and speech rows alike."""

    def make_tiny(self, root: Path, seed: int) -> None:
        """Write a mini corpus in the true layout into the empty folder `root`."""


class Format(Protocol):
    """`formats/*`: rows in the files of other tools; both functions stream."""

    def read(self, source: str, into: Intake, cfg: Any) -> Iterable[Utterance]:
        """The rows of a file, a folder or a name; what is no row (sound within files, closed values, problems) to `into`."""

    def write(self, rows: Iterable[Utterance], out: Path, cfg: Any) -> int:
        """Write rows to the file or folder `out`, whole or not at all; the number of rows."""


class Task(Protocol):
    """`tasks/*`: makes training examples from an utterance; pure and seeded.

    Where one row must know of others (for wrong answers, say), a module holds `survey(rows, cfg)` as well: what it makes of
    the training rows is handed to `examples` as a fourth argument. Where answers begin with steps that are no part of them,
    `final(raw)` gives the part that counts. An option `label` names the pools of a task that a scheme uses several times.
    """

    def examples(self, item: Utterance, cfg: Any, rng: Random) -> list[Example]:
        """The examples of one utterance; none of an utterance that the task cannot use."""


class SynthEngine(Protocol):
    """`synth/*`: speech synthesis. A `Config` with `speed` and `pitch` (factors, 1 is the voice's own) can change them itself.

    `LICENCE` says what the voices may be used for, where that is known.
    """

    def languages(self, cfg: Any) -> list[str]:
        """The languages (ISO 639-1) that it speaks on this machine; MissingExtraError if it cannot speak at all."""

    def voices(self, language: str, cfg: Any) -> list[str]:
        """The voices that the engine has for a language on this machine."""

    def speak(self, text: str, voice: str, language: str, cfg: Any) -> tuple[np.ndarray, int]:
        """Mono float32 waveform [num_samples] in -1..1 and its sample rate in Hz."""


class Selector(Protocol):
    """`select/*`: which utterances to record or to keep; pure, and a larger budget contains the smaller one.

    A `choose` that takes `known=NOTHING` as well (`records.Known`) is given the rows that are recorded already and the
    written rows of the task. A `Config` with a field `seed` that is None is given the seed of the budget. A module may hold
    `reasons(candidates, chosen, cfg, known=NOTHING)`: why each of the chosen ids, in words, for `lalm data plan`.
    """

    def choose(self, candidates: Sequence[Utterance], budget: int, cfg: Any) -> list[str]:
        """The ids of `budget` candidates, best first."""


class Connector(Protocol):
    """`connectors/*`: encoder frames -> language-model embeddings, for composed backbones."""

    def build(self, audio_width: int, text_width: int, cfg: Any) -> nn.Module:
        """A `ConnectorModule`."""


class ConnectorModule(Protocol):
    """What a connector's `build` returns (an `nn.Module` with these methods).

    One that hears languages differently holds `in_language(language)` as well: the connector, sharing its weights, whose
    `prepare`, `as_heard` and `fingerprint` are those for rows of a language.
    """

    def bind(self, tokenizer: Any, embed_tokens: nn.Module) -> None:
        """Give it the language model's tokenizer and input embeddings; once, after `build`."""

    def prepare(self, frames: Tensor, frame_mask: Tensor) -> list[dict[str, np.ndarray]]:
        """frames [batch, frames, audio_width], frame_mask [batch, frames]: the part that no gradient passes, per item, cacheable."""

    def forward(self, prepared: Sequence[Mapping[str, np.ndarray]]) -> tuple[Tensor, Tensor]:
        """Vectors [batch, length, text_width] and their mask [batch, length] (True = real)."""

    def num_vectors(self, item: Mapping[str, np.ndarray]) -> int:
        """How many vectors `forward` will make of one prepared item."""

    def as_heard(self, text: str, rng: Random) -> str:
        """A written sentence in the connector's own tongue, so that text rows look like speech rows."""

    def fingerprint(self) -> str:
        """Hash of weights and settings; keys the cache of `prepare`."""


class Backbone(Protocol):
    """`backbones/*`: loads a model family.

    `unheard(language, cfg)`, here and of connectors, may say what it means that a language of recordings is not known
    (here a list, of a connector a string or None); it is said once.
    """

    def load(self, cfg: Any) -> Model: ...

    def make_tiny(self, seed: int) -> Model:
        """The real classes with small random weights, tokenizer and processor built offline."""


class Model(Protocol):
    """What loop, evaluator and server know of a model: four things and its parts.

    `beginnings`, if there is one, says in words what becomes of the beginning that rows have in common, `rows_share` whether rows
    that are computed together share it; without it they are taken to share nothing. One that prepares recordings once may say which of some rows it has `to_hear(examples)` (paths and languages) and have them
    `prepared(paths, language)` several at once.
    """

    module: nn.Module
    peft: Any  # the PeftModel around `module` while adapters are attached, else None
    tokenizer: Any
    identity: Mapping[str, Any]  # names, hashes and licences of the weights, for run.json

    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Group name (`audio_encoder`, `connector`, `llm.attention`, ...) -> names of its sub-modules within `module`."""

    def batch(self, examples: Sequence[Example]) -> Any:
        """Collate examples of any modality, with as many recordings as their turns have, into the model's own features.

        The batch says itself in words: `decoded_prompts(tokenizer)` and `decoded_labels(tokenizer)`, one text a row.
        """

    def num_tokens(self, example: Example) -> int:
        """Length of a row in positions of the language model, for batching rows of like length."""

    def audio_positions(self, examples: Sequence[Example]) -> tuple[int, int]:
        """Positions that rows hold for their recordings, and vectors made of these recordings: the same number."""

    def content(self, example: Example) -> str:
        """Hash of what the language model is given for a row, recordings and answer included; names shared stages."""

    def loss(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Summed negative log-likelihood of the answer tokens per row [rows] and their number per row [rows]."""

    def generate(
        self,
        examples: Sequence[Example],
        max_new_tokens: int,
        num_beams: int = 1,
        grammar: Grammar | None = None,
        min_new_tokens: int = 0,
    ) -> list[str]:
        """The answers as text, in the order of the examples; none ends before `min_new_tokens`.

        Under a grammar nothing else can be said, and an answer is as long as the grammar lets it be.
        """


class Tuner(Protocol):
    """`tuners/*`: what is trained."""

    def attach(self, model: Model, groups: Sequence[str], cfg: Any) -> list[str]:
        """Make the groups trainable (and nothing else); the names of the trainable parameters."""

    def merge(self, model: Model) -> None:
        """Fold what was attached into the plain weights."""


class Scheme(Protocol):
    """`schemes/*`: when which rows are seen. Pure data, no torch.

    A module may hold `tasks(cfg, own)`: the auxiliary tasks (`PluginChoice`) whose pools, `text:transcribe` say, its plans use;
    `own` is the recipe's task. The part of a pool in one language, `text@fr` or `speech@fr:transcribe`, is a pool, too, where
    training holds several.
    """

    def plan(self, cfg: Any, pools: Pools) -> list[Stage]: ...


class Metric(Protocol):
    """`metrics/*`: counts per utterance, so that intervals and paired tests come to every metric alike."""

    HIGHER_IS_BETTER: bool

    def count(self, reference: Reading, hypothesis: Reading) -> tuple[float, ...] | None:
        """Counts of one utterance; None if the metric does not apply to it (no transcript for `wer`, say)."""

    def reduce(self, counts: np.ndarray) -> float:
        """Value from counts summed over utterances [num_counts] (or [..., num_counts], reduced over the last axis)."""


Reader = Callable[[Path], Iterator["Utterance"]]
