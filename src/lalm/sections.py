"""The sections of a recipe as typed values; what they mean together, and how they are read, is in `config`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from lalm.languages import Language, base


class PluginChoice(BaseModel):
    """A plug-in's name and its options; the options are checked against the plug-in's own `Config` when it is loaded."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(description="file name of the plug-in")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


class Section(BaseModel):
    """Frozen; a key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"the range goes from {value[0]:g} to {value[1]:g}; the smaller number comes first")
    return value


Probability = Annotated[float, Field(ge=0, le=1)]
_Factor = Annotated[float, Field(ge=0.5, le=2)]
_Seconds = Annotated[float, Field(ge=0, le=10)]
_Decibels = Annotated[float, Field(ge=-60, le=60)]
Factors = Annotated[tuple[_Factor, _Factor], AfterValidator(_ordered)]
SecondsRange = Annotated[tuple[_Seconds, _Seconds], AfterValidator(_ordered)]
DecibelRange = Annotated[tuple[_Decibels, _Decibels], AfterValidator(_ordered)]


class SpecAugmentSection(Section):
    """Masks on log-mel features; the defaults are the policy SM of arXiv 1904.08779, for small sets of short speech."""

    num_freq_masks: int = Field(2, ge=0, le=20, description="bands of mel bins that are masked")
    freq_mask_width: int = Field(15, ge=0, description="widest band, in mel bins (F in the paper, of 80 bins)")
    num_time_masks: int = Field(2, ge=0, le=20, description="stretches of time that are masked")
    time_mask_width: int = Field(70, ge=0, description="longest stretch, in frames of 10 ms (T in the paper)")
    time_mask_share: Probability = Field(
        0.2, description="longest stretch, as a share of the recording (p in the paper)"
    )


class TeraSection(Section):
    """Alterations of log-mel features as in TERA (arXiv 2007.06028), whose published code has these defaults."""

    time_share: Probability = Field(0.15, description="share of the frames that is chosen, in spans")
    time_width: PositiveInt = Field(7, description="frames of 10 ms a span")
    masked_probability: Probability = Field(0.8, description="chosen spans are masked")
    replaced_probability: Probability = Field(0.1, description="chosen spans become other spans of the same recording")
    channel_share: Probability = Field(0.2, description="widest band that is masked, as a share of the mel bins")
    magnitude_probability: Probability = Field(0.15, description="noise is added to all features")
    magnitude_std: float = Field(0.2, ge=0, le=2, description="its standard deviation, in those of each mel bin")

    @model_validator(mode="after")
    def _shares(self) -> TeraSection:
        if self.masked_probability + self.replaced_probability > 1:
            raise ValueError("masked_probability and replaced_probability together are above 1")
        return self


class AugmentSection(Section):
    """Changed copies of the training recordings; probabilities 0 to 1 a copy, ranges are drawn from evenly."""

    copies: int = Field(1, ge=1, le=100, description="changed copies of each recording, beside the recording itself")
    sources: tuple[Literal["recorded", "synthetic"], ...] = Field(
        ("recorded", "synthetic"), min_length=1, description="which recordings are copied"
    )
    seed: int = Field(0, description="seed of all changes, with the row's id and the number of the copy")
    rate: Factors = Field((0.9, 1.1), description="playback rate: pitch and tempo together")
    rate_probability: Probability = Field(0.5, description="share of copies whose rate is changed")
    silence_s: SecondsRange = Field((0.0, 0.3), description="silence before and, drawn again, after, in seconds")
    reverb_s: SecondsRange = Field((0.1, 0.5), description="time in which the room's sound falls by 60 dB, in seconds")
    reverb_probability: Probability = Field(0.5, description="share of copies put into a room")
    noise_folder: Path | None = Field(None, description="folder with recordings of noise (none: no noise)")
    snr_db: DecibelRange = Field((5.0, 20.0), description="speech over noise, in dB")
    noise_probability: Probability = Field(0.7, description="share of copies with noise, if there is a folder of it")
    telephone_probability: Probability = Field(0.0, description="share of copies sent through a telephone line")
    codecs: tuple[Literal["mulaw", "alaw", "gsm"], ...] = Field(
        ("mulaw",), min_length=1, description="codecs of that line, one drawn a copy"
    )
    gain_db: DecibelRange = Field((-10.0, 0.0), description="louder or softer, in dB; never beyond full scale")
    spec_augment: SpecAugmentSection | None = Field(None, description="masks on the features of copies (none: none)")
    tera: TeraSection | None = Field(None, description="TERA's alterations of the features of copies (none: none)")


class JoinSection(Section):
    """New sentences made of the written rows: values of slots put where other rows have them (`data/joining.py`)."""

    share: float = Field(1.0, gt=0, le=1, description="share of the rows of which new sentences are made")
    copies: int = Field(1, ge=1, le=20, description="new sentences of each of these rows, at most")
    max_inserted: int = Field(2, ge=1, le=10, description="slots added to a sentence, at most")
    seed: int = Field(0, description="seed of what is added where, with the row's id")


_SPEECH_BUDGETS = ("speech_share", "speech_items", "speech_minutes")


def _stated(section: BaseModel) -> list[str]:
    """The speech budgets that a section states. Raises ValueError if there is more than one."""
    given = [budget for budget in _SPEECH_BUDGETS if getattr(section, budget) is not None]
    if len(given) > 1:
        raise ValueError(f"give one speech budget, not {' and '.join(given)}")
    return given


class LanguageBudget(Section):
    """What is used of one language; what is not stated is as in the section around it, of this language's own rows."""

    speech_share: float | None = Field(None, ge=0, le=1, description="recordings used, as a share of the language's")
    speech_items: int | None = Field(None, ge=0, description="recordings used, as a number of items")
    speech_minutes: float | None = Field(None, ge=0, description="recordings used, in minutes of audio")
    num_text: int | None = Field(
        None, ge=0, description="text rows used: first those of the recordings, as the budget draws them"
    )

    @property
    def states_speech(self) -> bool:
        """Whether there is a speech budget."""
        return bool(_stated(self))

    @model_validator(mode="after")
    def _one_budget(self) -> LanguageBudget:
        _stated(self)
        return self


class DataSection(Section):
    """Which rows."""

    corpus: PluginChoice = Field(description="the corpus and its options")
    root: Path = Field(Path("."), description="folder (or manifest file) of the corpus, relative to the recipe")
    speech_share: float | None = Field(None, ge=0, le=1, description="recordings used, as a share of the pool (0 to 1)")
    speech_items: int | None = Field(None, ge=0, description="recordings used, as a number of items")
    speech_minutes: float | None = Field(None, ge=0, description="recordings used, in minutes of audio")
    budget_seed: int = Field(0, description="seed of the draw of recordings; a larger budget contains the smaller one")
    selector: PluginChoice | None = Field(
        None,
        description="selector that chooses the recordings of the budget (none: balanced over intents and slot types)",
    )
    num_text: PositiveInt | None = Field(None, description="text rows used, drawn at random (none: all)")
    num_test: PositiveInt | None = Field(None, description="test rows used, drawn at random (none: all)")
    languages: dict[Language, LanguageBudget] | None = Field(
        None, description="languages that are trained on, each with its budgets (none: all, under one budget)"
    )
    language_temperature: float | None = Field(
        None,
        ge=1,
        description="rows of a language are seen in proportion to their number ** (1 / temperature) (none: each as the scheme says)",
    )
    budget_sources: tuple[Literal["recorded", "synthetic"], ...] = Field(
        ("recorded",), min_length=1, description="which speech of the corpus the speech budget is drawn from"
    )
    synthetic: Path | None = Field(
        None,
        description="manifest of synthetic speech of the training text, if any; under a budget of text, of that text",
    )
    join_text: JoinSection | None = Field(None, description="sentences joined of the written rows (none: none)")
    augment: AugmentSection | None = Field(None, description="changed copies of the training recordings (none: none)")
    allow_outside_paths: bool = Field(False, description="let audio paths leave the corpus folder")

    @model_validator(mode="after")
    def _one_budget(self) -> DataSection:
        _stated(self)
        return self

    @field_validator("languages", mode="before")
    @classmethod
    def _each_language_once(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if not value:
            raise ValueError("names no language; leave it out to train on all")
        seen: dict[str, str] = {}
        for tag in map(str, value):
            code = base(tag)
            if code in seen:
                raise ValueError(f"{seen[code]} and {tag} are one language here, {code}; give it one budget")
            seen[code] = tag
        return {tag: {} if budget is None else budget for tag, budget in value.items()}


class TrainSection(Section):
    """How the loop runs; names as in Hugging Face's TrainingArguments."""

    learning_rate: PositiveFloat = Field(5e-4, description="peak learning rate of a stage with scale 1")
    per_device_train_batch_size: PositiveInt = Field(8, description="rows a micro-batch")
    gradient_accumulation_steps: PositiveInt = Field(1, description="micro-batches an optimizer step")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay")
    max_grad_norm: PositiveFloat = Field(1.0, description="gradients are clipped to this norm")
    lr_scheduler_type: str = Field(
        "cosine", pattern="^(cosine|linear|constant)$", description="after warm-up, within a stage"
    )
    groups: tuple[str, ...] = Field(("llm.attention", "llm.mlp"), description="groups that are trained")
    seed: int = Field(0, le=2**48, description="seed of initialisation, order and dropout")
    bf16: bool | None = Field(None, description="train in bfloat16 (none: where the machine computes in it natively)")
    gradient_checkpointing: bool = Field(False, description="compute layers again instead of keeping what they made")
    max_memory_gb: PositiveFloat | None = Field(
        None, description="compute as many rows at once as fit into so much memory (none: a micro-batch)"
    )
    load_in_4bit: bool = Field(False, description="keep the frozen language model in four bits (bitsandbytes nf4)")
    save_steps: PositiveInt = Field(200, description="optimizer steps between checkpoints")
    save_total_limit: PositiveInt = Field(2, description="checkpoints kept, the best one apart")
    eval_steps: PositiveInt | None = Field(
        None, description="optimizer steps between evaluations on dev (none: stage ends)"
    )
    metric_for_best_model: str | None = Field(
        None, description="dev metric that picks the best checkpoint (none: last is used)"
    )
    early_stopping_patience: PositiveInt | None = Field(
        None, description="dev evaluations without gain before stopping"
    )
    logging_steps: PositiveInt = Field(10, description="optimizer steps between log lines")


class EvaluateSection(Section):
    """How runs are judged."""

    metrics: tuple[str, ...] = Field(
        ("intent_accuracy", "entity_f1", "slu_f1", "exact_match"), description="metric plug-ins"
    )
    num_beams: PositiveInt = Field(1, description="1 is greedy")
    max_new_tokens: PositiveInt = Field(160, description="longest answer, in tokens")
    per_device_eval_batch_size: PositiveInt = Field(32, description="rows generated at once")
    bf16: bool | Literal["auto"] = Field(
        False,
        description="answer in bfloat16 (auto: where the machine computes in it natively): faster, and an answer may "
        "depend on the rows that are answered beside it",
    )
    num_resamples: PositiveInt = Field(1000, description="bootstrap resamples of an interval")
    constrained: bool = Field(
        False, description="answers obey a grammar made of the labels: right layout, known intents and slot types"
    )
    ontology: Path | None = Field(
        None, description="ontology.json that they obey (none: the labels of the training rows)"
    )

    closed_slots: tuple[str, ...] | Literal["all"] = Field(
        (),
        description="slot types that can have values of the training rows alone (without an ontology, which says itself)",
    )

    @model_validator(mode="after")
    def _ontology_is_obeyed(self) -> EvaluateSection:
        for name in ("ontology", "closed_slots"):
            if getattr(self, name) and not self.constrained:
                raise ValueError(f"{name} is what constrained answers obey; set constrained: true or leave it out")
        if self.ontology is not None and self.closed_slots:
            raise ValueError(
                "closed_slots and ontology: an ontology says itself which types are closed; give one of them"
            )
        return self
