"""`lalm check`: what a recipe would do, in words, before anything is trained.

Data and plan are read as training reads them, the model is loaded, one step is timed. Nothing is written, but for what a
model fetches or keeps in LALM_HOME.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from lalm.config import Recipe
from lalm.contracts import Model
from lalm.data.dialogue import heard_s, is_labelled
from lalm.data.pools import LoadedPools, check_recordings, load_pools
from lalm.errors import ConfigError, DataError, ModelError, many
from lalm.records import Example, Stage, Utterance
from lalm.study.costs import cost
from lalm.study.of_tasks import tasks_in_words
from lalm.study.single import asks_for_dev
from lalm.train.copies import num_copies
from lalm.train.order import epoch_rows
from lalm.train.setup import answers_obey, attach, load_model, make_examples, plan, task_examples

NUM_LONGEST = 3
Examples = Mapping[str, Sequence[Example]]


def check_recipe(recipe: Recipe, hear: bool = False) -> str:
    """The page that `lalm check` prints; with `hear` the hearing check too.

    Raises UserError for whatever training would refuse, and for a model that does not hear.
    """
    pools = load_pools(recipe.data)
    check_recordings(pools)
    examples = make_examples(recipe, pools)
    stages = plan(recipe, examples)
    asks_for_dev(recipe, pools)
    grammar = answers_obey(recipe, pools)
    model = load_model(recipe)
    groups = model.groups()
    trainable, _ = attach(recipe, model)
    steps = [_num_steps(recipe, stage, examples) for stage in stages]
    if not sum(steps):
        raise ConfigError("The plan holds no rows: neither text nor recordings are left for any stage.")
    return "\n\n".join(
        [
            _choices(recipe),
            _rows(recipe, pools),
            *tasks_in_words(examples, stages),
            _stages(recipe, stages, steps, examples),
            _weights(model, groups, set(trainable)),
            *([f"Beginnings of rows: {model.beginnings}"] if hasattr(model, "beginnings") else []),
            *_in_words(model, examples),
            *([f"Answers obey a grammar; the longest takes {grammar.max_bytes} bytes."] if grammar is not None else []),
            _longest(model, pools, examples),
            *([_hearing(recipe, model, pools, examples)] if hear else []),
            cost(recipe, model, trainable, stages, steps, examples),
        ]
    )


def _choices(recipe: Recipe) -> str:
    connector = recipe.backbone.options.get("connector")
    heard = f" (connector {connector['name']})" if isinstance(connector, dict) else ""
    return (
        f"scheme {recipe.scheme.name}, tuner {recipe.tuner.name}, backbone {recipe.backbone.name}{heard}, "
        f"corpus {recipe.data.corpus.name} in {recipe.data.root}, seed {recipe.train.seed}"
    )


def _rows(recipe: Recipe, pools: LoadedPools) -> str:
    pool = f" (of a pool of {pools.num_pool_speech}, {_length(pools.pool_speech_s)})" if pools.num_pool_speech else ""
    by = f", chosen by {recipe.data.selector.name}" if recipe.data.selector is not None and pools.speech else ""
    lines = [
        "Rows",
        f"  text       {many(len(pools.text), 'sentence')}",
        f"  speech     {_amount(pools.speech)}{pool}{by}",
        f"  synthetic  {_amount(pools.synthetic)}",
        *_copies(recipe, pools),
        f"  dev        {_amount(pools.dev)}",
        f"  test       {_amount(pools.test)}",
    ]
    training = [*pools.text, *pools.speech, *pools.synthetic]
    intents = Counter(row.frame.intent for row in training if row.frame.intent)
    slots = Counter(slot.type for row in training for slot in row.frame.slots)
    lines += [
        f"  {many(len(intents), 'intent')}: {_counts(intents)}",
        f"  {many(len(slots), 'slot type')}: {_counts(slots)}",
    ]
    unlabelled = sum(not is_labelled(row) for row in training)
    if unlabelled:
        lines.append(
            f"  {many(unlabelled, 'training row')} with neither intent, slots nor answers, which teaches just that"
        )
    for name, known, met in (
        ("intents", set(intents), {row.frame.intent for row in pools.test if row.frame.intent}),
        ("slot types", set(slots), {slot.type for row in pools.test for slot in row.frame.slots}),
    ):
        if met - known:
            lines.append(f"  never trained, but tested: {name} {', '.join(sorted(met - known))}")
    return "\n".join(lines)


def _copies(recipe: Recipe, pools: LoadedPools) -> list[str]:
    """A line on changed copies, if there are any: a pass over a pool goes over them, too."""
    number = num_copies(recipe.data, pools)
    return [f"  copies     {number}, made by data.augment; passes go over recordings and copies"] if number else []


def _amount(rows: Sequence[Utterance]) -> str:
    recorded = [row for row in rows if row.recordings]
    if not recorded:
        return many(len(rows), "row") if rows else "none"
    unknown = sum(heard_s(row) is None for row in recorded)
    length = _length(sum(heard_s(row) or 0.0 for row in recorded))
    speakers = len({row.speaker for row in recorded if row.speaker})
    parts = [many(len(recorded), "recording"), length]
    parts += [many(speakers, "speaker")] if speakers else []
    parts += [f"{unknown} of unknown length"] if unknown else []
    parts += [f"and {many(len(rows) - len(recorded), 'sentence')}"] if len(rows) > len(recorded) else []
    return ", ".join(parts)


def _length(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 90 else f"{seconds:.0f} s"


def _counts(counter: Counter[str]) -> str:
    shown = [f"{name} {number}" for name, number in counter.most_common(8)]
    return ", ".join(shown) + (f" and {len(counter) - 8} more" if len(counter) > 8 else "")


def _num_steps(recipe: Recipe, stage: Stage, examples: Examples) -> int:
    """Optimizer steps of a stage: every epoch's rows in steps of batch size x accumulation, the last one short."""
    sizes = {pool: len(rows) for pool, rows in examples.items()}
    epochs = (epoch_rows(stage, sizes, epoch, recipe.train.seed) for epoch in range(stage.epochs))
    return sum(math.ceil(len(rows) / _step_size(recipe)) for rows in epochs)


def _step_size(recipe: Recipe) -> int:
    return recipe.train.per_device_train_batch_size * recipe.train.gradient_accumulation_steps


def _stages(recipe: Recipe, stages: Sequence[Stage], steps: Sequence[int], examples: Examples) -> str:
    lines = [f"Plan: {sum(steps)} steps of {_step_size(recipe)} rows"]
    for stage, number in zip(stages, steps, strict=True):
        drawn = [f"{pool} x {passes:g}" for pool, passes in stage.passes.items() if passes > 0 and examples.get(pool)]
        rate = recipe.train.learning_rate * stage.learning_rate_scale
        lines.append(
            f"  {stage.name}: {many(number, 'step')}, {many(stage.epochs, 'epoch')} of {', '.join(drawn) or 'no rows'}; learning rate "
            f"{rate:g} after {many(math.ceil(stage.warmup_ratio * number), 'step')} of warm-up"
        )
    return "\n".join(lines)


def _weights(model: Model, groups: Mapping[str, Sequence[str]], trainable: set[str]) -> str:
    """Parameters by group; tied weights are counted once, weights that an adapter adds with the group they sit in."""
    parts = [(f"{part}.", group) for group, names in groups.items() for part in names]
    total: Counter[str] = Counter()
    trained: Counter[str] = Counter()
    for name, parameter in model.module.named_parameters():
        found = [(len(part), group) for part, group in parts if name.startswith(part)]
        group = max(found)[1] if found else "others"
        total[group] += parameter.numel()
        trained[group] += parameter.numel() if name in trainable else 0
    width = max(map(len, total))
    lines = ["Weights: trained of all"]
    for group in [*(g for g in groups if total[g]), *(["others"] if total["others"] else [])]:
        lines.append(f"  {group:<{width}}  {_share(trained[group], total[group])}")
    lines.append(f"  {'in all':<{width}}  {_share(trained.total(), total.total())}")
    return "\n".join(lines)


def _share(trained: int, total: int) -> str:
    return f"{trained:>12,} of {total:>12,}  {'frozen' if not trained else f'{trained / total:.2%} trained'}"


def _in_words(model: Model, examples: Examples) -> list[str]:
    """A row of each pool as the model is given it, and the answer that the loss is taken on."""
    sections = []
    for pool, rows in examples.items():
        if not rows or "@" in pool:  # a part of another pool
            continue
        batch = model.batch(rows[:1])
        heard = getattr(model, "heard", lambda _: [None])(rows[:1])[0]
        prompt = batch.decoded_prompts(model.tokenizer)[0]
        lines = [f"A {pool} row as the model is given it ({rows[0].id})"]
        lines += [f"  | {line}" for line in prompt.split("\n")]
        lines += [f"  [audio] is {path}" for path in rows[0].recordings]
        lines += [f"  heard as: {heard}"] if heard else []
        lines += [f"  learns to answer: {batch.decoded_labels(model.tokenizer)[0]}"]
        sections.append("\n".join(lines))
    return sections


def _longest(model: Model, pools: LoadedPools, examples: Examples) -> str:
    """The longest rows; of recordings those that last longest are measured, so that not all of them must be heard."""
    lasting = sorted(pools.speech, key=lambda row: heard_s(row) or 0.0, reverse=True)[:NUM_LONGEST]
    candidates = {path for row in lasting for path in row.recordings}
    measured = [
        (model.num_tokens(row), kind, row)
        for pool, rows in examples.items()
        if (kind := pool.partition(":")[0]) in ("text", "speech")  # of auxiliary tasks, too
        for row in rows
        if kind == "text" or candidates.issuperset(row.recordings)
    ]
    lines = ["Longest rows, in positions of the language model"]
    for kind in ("text", "speech"):
        longest = sorted((item for item in measured if item[1] == kind), key=lambda item: -item[0])[:NUM_LONGEST]
        for length, _, row in longest:
            said = row.text or ", ".join(map(str, row.recordings)) or " ".join(turn.text or "" for turn in row.turns)
            lines.append(f"  {length:>5}  {kind} {row.id}: {said[:70]}{'...' if len(said) > 70 else ''}")
    return "\n".join([*lines, *_cut(model, examples)])


def _cut(model: Model, examples: Examples) -> list[str]:
    """What the backbone's own limit cuts; only a model that has one says so, and it looks at headers alone."""
    if not getattr(model, "counts", None):
        return []
    spoken = [row for rows in examples.values() for row in rows if row.recordings]
    recordings = {path for row in spoken for path in row.recordings}
    for row in spoken:
        model.num_tokens(row)
    return [f"  {many(model.counts['recordings_cut'], 'recording')} of {len(recordings)} cut to backbone.max_audio_s"]  # type: ignore[attr-defined]


def _hearing(recipe: Recipe, model: Model, pools: LoadedPools, examples: Examples) -> str:
    """Raises DataError if there is no recording to check with, ModelError if an answer of the check is no."""
    from lalm.study.hear import as_text, hearing_check  # torch

    tested = [row for row in task_examples(recipe, pools.test) if row.recordings]
    recordings = list(examples["speech"]) or list(examples["synthetic"]) or tested
    if not recordings:
        raise DataError("--hear: the corpus has no recording to check with, neither for training nor for testing.")
    findings = hearing_check(model, examples["text"], recordings)
    if not all(one.holds for one in findings):
        raise ModelError(f"This model does not hear as it should.\n{as_text(findings)}")
    return as_text(findings)
