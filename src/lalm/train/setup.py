"""What a run is set up from: rows, stages, model, trainable weights."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from lalm import plugins
from lalm.config import PluginChoice, Recipe, TrainSection
from lalm.contracts import Model
from lalm.data.grammar import Grammar, Seen, asked_grammar, seen_in
from lalm.data.labels import answer_text
from lalm.data.ontology import read_ontology, write_ontology
from lalm.data.pools import LoadedPools
from lalm.errors import ConfigError, DataError, many
from lalm.records import Example, Frame, Pools, Stage, Utterance
from lalm.rundir import RunDir, write_json
from lalm.train.copies import copies
from lalm.train.distributed import team
from lalm.train.mixture import by_temperature, with_parts
from lalm.train.provenance import provenance


def make_examples(recipe: Recipe, pools: LoadedPools) -> dict[str, list[Example]]:
    """Training rows by pool, made by the recipe's task; recordings are followed by their changed copies, if any.

    Where the scheme asks for auxiliary tasks, their rows are in pools of their own: `text:transcribe`, say.
    Raises UserError for a task that can use none of the rows.
    """
    changed = copies(recipe.data, pools)
    rows = {
        "text": pools.text,
        "speech": [*pools.speech, *changed["speech"]],
        "synthetic": [*pools.synthetic, *changed["synthetic"]],
    }
    known = pools.text or [*pools.speech, *pools.synthetic]  # the same at every budget, where there is text
    examples = {pool: examples_of(recipe, recipe.task, members, known) for pool, members in rows.items()}
    _check_used(recipe.task, examples, rows)
    for task in auxiliary_tasks(recipe):
        made = {pool: examples_of(recipe, task, members, known, auxiliary=True) for pool, members in rows.items()}
        _check_used(task, made, rows)
        examples |= {f"{pool}:{label_of(task)}": members for pool, members in made.items()}
    return with_parts(examples)


def auxiliary_tasks(recipe: Recipe) -> tuple[PluginChoice, ...]:
    """The tasks that the scheme trains beside the recipe's own. Raises ConfigError if that one is among them."""
    scheme = plugins.load("schemes", recipe.scheme.name)
    if not hasattr(scheme, "tasks"):
        return ()
    cfg = plugins.configure(scheme, recipe.scheme.options, "scheme")
    found: tuple[PluginChoice, ...] = scheme.tasks(cfg, recipe.task)
    if recipe.task.name in map(label_of, found):
        raise ConfigError(
            f"scheme.tasks: {recipe.task.name} is the recipe's own task already; its weight is scheme.main_weight."
        )
    return found


def label_of(task: PluginChoice) -> str:
    """What the pools of an auxiliary task are called: its name, or its option `label` where one task is there several times."""
    return str(task.options.get("label", task.name))


def task_examples(recipe: Recipe, rows: Sequence[Utterance]) -> list[Example]:
    """The recipe's task over rows, seeded."""
    return examples_of(recipe, recipe.task, rows, rows)


def examples_of(
    recipe: Recipe, choice: PluginChoice, rows: Sequence[Utterance], known: Sequence[Utterance], auxiliary: bool = False
) -> list[Example]:
    """A task over rows. Each row has a seed of its own, so what is made of it depends on no budget.

    `known` are the rows that a task may look at beside each (`survey`). Rows of an auxiliary task are named
    `<row>/<task>/<number>`, since a row's own name is that of its main example; the recipe's own task goes by its plug-in's name,
    whatever its option `label` says. With `task_tags` the instructions end with
    a line of tags, against the interference of labels between tasks: as in Qwen-Audio (arXiv 2311.07919, section 3.2),
    but after what all rows of a task share.
    """
    task = plugins.load("tasks", choice.name)
    cfg = plugins.configure(task, choice.options, "task")
    others = (task.survey(known, cfg),) if hasattr(task, "survey") else ()
    result = []
    for row in rows:
        made = task.examples(row, cfg, Random(f"{recipe.train.seed}/{choice.name}/{row.id}"), *others)
        for number, example in enumerate(made, 1):
            name = f"{row.id}/{label_of(choice)}/{number}" if auxiliary else example.id
            called = example.task if auxiliary else choice.name
            tags = f"\n[task: {called}] [language: {example.language}]" if recipe.task_tags else ""
            result.append(replace(example, id=name, task=called, instruction=f"{example.instruction}{tags}"))
    return result


def _check_used(
    task: PluginChoice, made: Mapping[str, Sequence[Example]], rows: Mapping[str, Sequence[Utterance]]
) -> None:
    """Raises ConfigError if a task makes nothing of all rows."""
    there = [row for members in rows.values() for row in members]
    if there and not any(made.values()):
        raise ConfigError(
            f"The task {task.name} can use none of the {many(len(there), 'training row')} (first '{there[0].id}', with "
            f"{_what_it_has(there[0])}). It is: {plugins.summary('tasks', task.name)}"
        )


def _what_it_has(row: Utterance) -> str:
    names = ("turns", "text", "audio", "context", "question", "answers", "clarification")
    has = [name for name in names if getattr(row, name)] + ["a label"] * (row.frame != Frame(None))
    return " and ".join(filter(None, [", ".join(has[:-1]), has[-1]])) if has else "nothing"


def plan(recipe: Recipe, examples: Mapping[str, Sequence[Example]]) -> list[Stage]:
    """The scheme's stages for these pools. Raises ConfigError where a pool that it needs is empty."""
    scheme = plugins.load("schemes", recipe.scheme.name)
    cfg = plugins.configure(scheme, recipe.scheme.options, "scheme")
    of_tasks = {pool: len(rows) for pool, rows in examples.items() if ":" in pool and "@" not in pool}
    sizes = Pools(len(examples["text"]), len(examples["speech"]), len(examples["synthetic"]), of_tasks)
    stages: list[Stage] = scheme.plan(cfg, sizes)
    if any(stage.passes.get("text", 0) > 0 for stage in stages) and not examples["text"]:
        raise DataError(f"The scheme {recipe.scheme.name} trains on text and the corpus has no labelled training text.")
    if any(stage.passes.get("synthetic", 0) > 0 for stage in stages) and not examples["synthetic"]:
        raise ConfigError(
            "scheme.synthetic_passes is above 0 and data.synthetic names no manifest of synthetic speech."
        )
    missing = sorted(
        {pool for stage in stages for pool, passes in stage.passes.items() if passes > 0} - examples.keys()
    )
    if missing:
        raise ConfigError(f"The scheme {recipe.scheme.name} asks for rows that no task makes: {', '.join(missing)}.")
    if recipe.data.language_temperature is not None:
        stages = by_temperature(stages, examples, recipe.data.language_temperature)
    return stages


def check_machine(cfg: TrainSection) -> None:
    """Raises UserError, before any weight is loaded, if this machine cannot train as `cfg` asks (`bf16`)."""
    from lalm.train.optim import uses_bf16

    uses_bf16(cfg, team().device)


def load_model(recipe: Recipe) -> Model:
    """The recipe's backbone, on this process's accelerator if there is one, with the recipe's memory options.

    Raises UserError if the weights cannot be had, or where it is asked for and the model cannot be put into four bits or
    held to a grammar.
    """
    from lalm.backbones._grammar import check_tokenizer
    from lalm.train import lean

    we = team()
    if recipe.train.load_in_4bit:
        lean.check_4bit(we.device)
    backbone = plugins.load("backbones", recipe.backbone.name)
    model: Model = backbone.load(plugins.configure(backbone, recipe.backbone.options, "backbone"))
    if recipe.evaluate.constrained:
        check_tokenizer(model.tokenizer)
    if recipe.train.load_in_4bit:
        lean.quantize(model, recipe.train, we.device)
    if we.device.type == "cuda":
        model.module.to(we.device)
    if recipe.train.gradient_checkpointing:
        lean.recompute(model)
    return model


def attach(recipe: Recipe, model: Model) -> tuple[list[str], Any]:
    """Attach the tuner, seeded; names of the trainable parameters, and what else the weights depend on.

    Raises UserError for groups that the tuner cannot train.
    """
    import torch

    tuner = plugins.load("tuners", recipe.tuner.name)
    torch.manual_seed(recipe.train.seed)
    try:
        trainable = tuner.attach(model, recipe.train.groups, plugins.configure(tuner, recipe.tuner.options, "tuner"))
    except RuntimeError as error:
        if not recipe.train.load_in_4bit or "floating point" not in str(error):
            raise
        raise ConfigError(
            f"train.load_in_4bit: weights of four bits are frozen, and the tuner {recipe.tuner.name} trains the weights "
            "themselves. Use the tuner lora, or leave train.load_in_4bit out."
        ) from None
    base = {key: value for key, value in model.identity.items() if not key.startswith("connector")}
    trains_connector = any("connector" in group or "audio" in group for group in recipe.train.groups)
    return trainable, [
        base if not trains_connector else dict(model.identity),
        recipe.tuner.model_dump(mode="json"),
        sorted(trainable),
    ]


def answers_obey(recipe: Recipe, pools: LoadedPools) -> Grammar | None:
    """The grammar of the answers, from the training rows; None if they are free.

    Raises UserError for a wrong ontology, and for a task that teaches answers of another layout.
    """
    if recipe.evaluate.constrained:
        for row in [*pools.text, *pools.speech, *pools.synthetic][:1]:
            taught = task_examples(recipe, [row])
            if any(example.answer != answer_text(row.frame) for example in taught):
                raise ConfigError(
                    f"evaluate.constrained: the grammar is of intent and slots ({answer_text(row.frame)}), and the task "
                    f"{recipe.task.name} teaches other answers ({taught[0].answer}). Leave evaluate.constrained out."
                )
    return asked_grammar(recipe.evaluate, _seen(pools))


def write_labels(run: RunDir, recipe: Recipe, pools: LoadedPools) -> None:
    """The label schema of the training rows (intents, slot types and values as seen), and a copy of the recipe's ontology."""
    write_json(run.labels, _seen(pools).to_json())
    if recipe.evaluate.ontology is not None:
        write_ontology(run.ontology, read_ontology(recipe.evaluate.ontology))


def _seen(pools: LoadedPools) -> Seen:
    return seen_in(row.frame for row in (*pools.text, *pools.speech, *pools.synthetic))


def finish(
    run: RunDir,
    recipe: Recipe,
    model: Model,
    pools: LoadedPools,
    stages: Sequence[Stage],
    counts: Mapping[str, Any],
    started: float,
) -> None:
    """The finished weights and `run.json`, which is written last: a folder without it is not a finished run.

    All processes call this; the main one writes, and the others wait for it.
    """
    from lalm.train.checkpoint import save_adapter

    save_adapter(run, model)
    if team().is_main:
        made = provenance(recipe, model, pools, stages)
        write_json(run.info, {**made, **counts, "seconds": round(time.monotonic() - started, 1)})
    team().wait()
