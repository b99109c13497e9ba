"""The training loop: one loss whatever the micro-batches, stages, logs, the best weights, and going on after a stop."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lalm.config import Recipe
from lalm.errors import ConfigError, DataError, ModelError, UserError
from lalm.records import Example, Stage
from lalm.rundir import RunDir
from lalm.train import checkpoint
from lalm.train.loop import FitResult, fit
from lalm.train.setup import attach, load_model

TEXT_THEN_MIXED = (
    Stage("text", {"text": 1.0}, epochs=2),
    Stage("mixed", {"text": 1.0, "speech": 3.0}, epochs=1, learning_rate_scale=0.6, warmup_ratio=0.02),
)


@dataclass
class Done:
    """What a call of the loop left."""

    result: FitResult
    state: dict[str, torch.Tensor]
    log: list[dict]
    run: RunDir


def trained(recipe: Recipe, examples, folder: Path, stages=TEXT_THEN_MIXED, model=None, train=None, **options) -> Done:
    cfg = recipe.train.model_copy(update=train or {})
    recipe = recipe.model_copy(update={"train": cfg})
    model = model or load_model(recipe)
    folder.mkdir(exist_ok=True)
    run = RunDir(folder)
    names, identity = attach(recipe, model)
    result = fit(model, names, stages, examples, cfg, run, identity=identity, quiet=True, **options)
    log = [json.loads(line) for line in run.log.read_text().splitlines()] if run.log.is_file() else []
    return Done(result, checkpoint.trained_state(model), log, run)


def without_dropout(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"tuner": recipe.tuner.model_copy(update={"lora_dropout": 0.0})})


def difference(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(recipe, examples, tmp_path_factory) -> Done:
    """A run of nine steps that nothing disturbed."""
    return trained(recipe, examples, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def start(recipe, examples, tmp_path_factory) -> dict[str, torch.Tensor]:
    """The weights before training."""
    return trained(recipe, examples, tmp_path_factory.mktemp("start"), train={"learning_rate": 1e-30}).state


# -- the loss --------------------------------------------------------------------------------------------------------


def test_micro_batches_do_not_change_what_is_learned(recipe, examples, start, tmp_path):
    # answers of very different lengths: a mean of the micro-batches' means would be another loss
    rows = [replace(row, answer="{}" if i % 2 else row.answer * 2) for i, row in enumerate(examples["text"])]
    pools = {"text": rows, "speech": examples["speech"], "synthetic": []}
    ends = {}
    for size, steps in ((8, 1), (4, 2), (2, 4), (1, 8)):
        train = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "learning_rate": 1e-2}
        ends[size] = trained(without_dropout(recipe), pools, tmp_path / f"{size}", train=train)
    moved = difference(ends[8].state, start)
    assert moved > 1e-2
    for size in (4, 2, 1):
        assert difference(ends[8].state, ends[size].state) < 1e-3 * moved
        assert [row["loss"] for row in ends[size].log] == pytest.approx([row["loss"] for row in ends[8].log], rel=1e-4)
        assert [row["grad_norm"] for row in ends[size].log] == pytest.approx(
            [row["grad_norm"] for row in ends[8].log], rel=1e-2
        )
    assert ends[8].result.steps == ends[1].result.steps == 2 * 1 + 3


def test_the_loss_is_logged_by_modality_and_by_task(recipe, examples, tmp_path):
    speech = [replace(row, task="other" if i else "slu") for i, row in enumerate(examples["speech"])]
    pools = {"text": examples["text"], "speech": speech, "synthetic": []}
    stage = Stage("all", {"text": 1.0, "speech": 1.0}, epochs=1)
    line = trained(recipe, pools, tmp_path, [stage], train={"per_device_train_batch_size": 12}).log[0]
    model = load_model(recipe)
    sums: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for row in (*pools["text"], *pools["speech"]):
            for key in ("loss", f"loss/{'speech' if row.audio else 'text'}", f"loss/task/{row.task}"):
                nll, tokens = model.loss(model.batch([row]))
                sums[key] = sums.get(key, torch.zeros(2)) + torch.stack([nll[0], tokens[0]])
    assert set(sums) == {"loss", "loss/speech", "loss/text", "loss/task/slu", "loss/task/other"}
    for key, (nll, tokens) in sums.items():
        assert line[key] == pytest.approx(float(nll / tokens), rel=1e-4), key
    assert len({round(line[key], 3) for key in sums}) > 2
    assert line["stage"] == "all"


def test_every_stage_has_its_own_schedule(recipe, examples, tmp_path):
    stages = [replace(TEXT_THEN_MIXED[0], warmup_ratio=0.25), replace(TEXT_THEN_MIXED[1], warmup_ratio=0.0)]
    for kind, decay in (("cosine", lambda x: 0.5 * (1 + math.cos(math.pi * x))), ("linear", lambda x: 1 - x)):
        train = {"learning_rate": 1e-3, "lr_scheduler_type": kind}
        done = trained(recipe, examples, tmp_path / kind, stages, train=train)
        text = [1e-3 * 0.5, *(1e-3 * decay(x / 3) for x in range(3))]  # one step of four warms up
        mixed = [6e-4 * decay(x / 5) for x in range(5)]
        assert [row["learning_rate"] for row in done.log] == pytest.approx([*text, *mixed])
    constant = trained(recipe, examples, tmp_path / "constant", train={"lr_scheduler_type": "constant"})
    assert {round(row["learning_rate"], 9) for row in constant.log[4:]} == {3e-4, 1.5e-4}


def test_answers_are_learned(recipe, examples, tmp_path):
    stage = Stage("mixed", {"text": 1.0, "speech": 1.0}, epochs=12)
    done = trained(recipe, examples, tmp_path, [stage], train={"learning_rate": 2e-2, "save_steps": 1000})
    first, last = done.log[0]["loss"], done.log[-1]["loss"]
    assert last < 0.5 * first


def test_a_stage_can_train_fewer_groups_than_the_recipe(recipe, examples, start, tmp_path):
    stages = [replace(TEXT_THEN_MIXED[0], groups=("llm.mlp",)), TEXT_THEN_MIXED[1]]
    first = trained(recipe, examples, tmp_path / "first", stages[:1]).state
    both = trained(recipe, examples, tmp_path / "both", stages).state
    for name in start:
        moved = not torch.allclose(first[name], start[name], atol=1e-12)
        assert moved == (".mlp." in name), name
        assert not torch.allclose(both[name], start[name], atol=1e-12)
    with pytest.raises(ConfigError, match=r"'text'.*'llm\.mpl'.*Did you mean 'llm\.mlp'"):
        trained(recipe, examples, tmp_path / "typo", [replace(stages[0], groups=("llm.mpl",))])
    with pytest.raises(ConfigError, match=r"'connector', which train\.groups leaves out"):
        trained(recipe, examples, tmp_path / "other", [replace(stages[0], groups=("connector",))])


def test_seeds_change_what_is_learned_and_the_same_seed_does_not(recipe, examples, whole, tmp_path):
    assert same(whole.state, trained(recipe, examples, tmp_path / "again", train={"seed": 0}).state)
    assert not same(whole.state, trained(recipe, examples, tmp_path / "other", train={"seed": 1}).state)


# -- what is refused -------------------------------------------------------------------------------------------------


def test_a_plan_without_rows_is_refused(recipe, examples, tmp_path):
    with pytest.raises(ConfigError, match="no rows"):
        trained(recipe, {"text": [], "speech": [], "synthetic": []}, tmp_path)


def test_all_rows_that_cannot_be_used_are_named(recipe, examples, tmp_path):
    speech = list(examples["speech"])
    for index, name in ((1, "gone"), (3, "away")):
        speech[index] = replace(speech[index], id=name, audio=tmp_path / f"{name}.wav")
    with pytest.raises(DataError, match=r"(?s)2 training rows.*'gone'.*gone\.wav.*'away'.*away\.wav") as caught:
        trained(recipe, {**examples, "speech": speech}, tmp_path / "run")
    assert len(caught.value.problems) == 2
    assert not list((tmp_path / "run").iterdir()), "nothing was written"
    text_only = trained(recipe, {**examples, "speech": speech}, tmp_path / "run", TEXT_THEN_MIXED[:1])
    assert text_only.result.steps == 4, "rows of a pool that no stage uses are not asked for"


def test_divergence_is_said_with_its_remedy(recipe, examples, tmp_path):
    with pytest.raises(UserError, match=r"diverged at step \d+.*Lower train\.learning_rate \(now 1e\+30\)"):
        trained(recipe, examples, tmp_path, train={"learning_rate": 1e30, "lr_scheduler_type": "constant"})


# -- the best weights ------------------------------------------------------------------------------------------------


@dataclass
class Judge:
    """Development scores as the test wants them, one a call."""

    values: list[float]
    seen: list[float] = field(default_factory=list)

    def __call__(self) -> dict[str, float]:
        self.seen.append(self.values[len(self.seen)])
        return {"exact_match": self.seen[-1], "wer": 1 - self.seen[-1]}


BEST = {"metric_for_best_model": "exact_match", "eval_steps": 1, "save_steps": 3}


def test_the_best_weights_are_kept_and_loaded_at_the_end(recipe, examples, whole, tmp_path):
    values = [0.1, 0.3, 0.3, 0.9, 0.2, 0.8, 0.1, 0.1, 0.1]
    done = trained(recipe, examples, tmp_path / "best", train=BEST | {"save_total_limit": 1}, evaluate=Judge(values))
    assert done.result.best_step == 4
    assert not done.result.stopped_early
    assert [path.name for path in done.run.checkpoints()] == ["checkpoint-4", "checkpoint-9"]
    assert same(done.state, load_file(done.run.checkpoint(4) / checkpoint.ADAPTER_FILE))
    assert [row["dev/exact_match"] for row in done.log if "dev/exact_match" in row] == values
    assert same(whole.state, load_file(done.run.checkpoint(9) / checkpoint.ADAPTER_FILE)), "judging changed training"


def test_lower_is_better_where_the_metric_says_so(recipe, examples, tmp_path):
    judge = Judge([0.5, 0.7, 0.6, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])
    train = BEST | {"metric_for_best_model": "wer"}
    done = trained(recipe, examples, tmp_path, train=train, evaluate=judge, higher_is_better=False)
    assert done.result.best_step == 2


def test_without_eval_steps_the_ends_of_stages_are_judged(recipe, examples, tmp_path):
    judge = Judge([0.5, 0.4])
    done = trained(recipe, examples, tmp_path, train=BEST | {"eval_steps": None}, evaluate=judge)
    assert [row["step"] for row in done.log if "dev/wer" in row] == [4, 9]
    assert done.result.best_step == 4


def test_training_stops_when_the_metric_no_longer_gains_and_stays_stopped(recipe, examples, tmp_path):
    train = BEST | {"early_stopping_patience": 2, "save_total_limit": 1}
    done = trained(recipe, examples, tmp_path, train=train, evaluate=Judge([0.1, 0.4, 0.4, 0.3]))
    assert (done.result.steps, done.result.best_step, done.result.stopped_early) == (4, 2, True)
    again = trained(recipe, examples, tmp_path, train=train, evaluate=Judge([]), resume=True)
    assert again.result == done.result
    assert same(again.state, done.state)


def test_a_metric_without_a_value_is_named(recipe, examples, tmp_path):
    train = BEST | {"metric_for_best_model": "slu_f1"}
    with pytest.raises(ConfigError, match=r"slu_f1 has no value.*exact_match, wer"):
        trained(recipe, examples, tmp_path, train=train, evaluate=Judge([0.5]))


# -- going on --------------------------------------------------------------------------------------------------------


class BrokenOffError(Exception):
    pass


def stopped_at(recipe: Recipe, examples, folder: Path, call: int, **options) -> None:
    """Run until the loss is asked for the `call`-th time (from 0), and break off there."""
    model = load_model(recipe)
    plain, calls = model.loss, []

    def loss(batch):
        if len(calls) == call:
            raise BrokenOffError
        calls.append(batch)
        return plain(batch)

    model.loss = loss
    with pytest.raises(BrokenOffError):
        trained(recipe, examples, folder, model=model, **options)


TUNERS = {
    "lora": {"name": "lora", "r": 4, "lora_dropout": 0.1},
    "last layer": {"name": "lora", "r": 4, "last_layers": 1},  # what the layers below make of a row is kept
    "full": {"name": "full"},
}


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_run_broken_off_at_any_step_ends_at_the_same_weights(tuner, recipe, examples, whole, tmp_path):
    if tuner != "lora":
        recipe = recipe.model_copy(update={"tuner": recipe.tuner.model_validate(TUNERS[tuner])})
        whole = trained(recipe, examples, tmp_path / "whole")
    assert whole.result.steps == 9
    for step in range(1, 9):
        folder = tmp_path / f"broken-{step}"
        stopped_at(recipe, examples, folder, step)
        kept = [path.name for path in RunDir(folder).checkpoints()]
        assert kept == [f"checkpoint-{n}" for n in range(2, step + 1, 2)][-2:]
        again = trained(recipe, examples, folder, resume=True)
        assert same(again.state, whole.state), f"broken off after step {step}"
        assert again.result == whole.result
        lines = [{key: row[key] for key in ("step", "stage", "learning_rate")} for row in again.log]
        assert lines == [{key: row[key] for key in ("step", "stage", "learning_rate")} for row in whole.log]


def test_a_run_broken_off_twice_and_after_its_last_step_ends_at_the_same_weights(recipe, examples, whole, tmp_path):
    stopped_at(recipe, examples, tmp_path / "twice", 3)
    stopped_at(recipe, examples, tmp_path / "twice", 2, resume=True)  # four steps are kept then
    assert same(trained(recipe, examples, tmp_path / "twice", resume=True).state, whole.state)
    after = trained(recipe, examples, whole.run.root, resume=True)
    assert same(after.state, whole.state)
    assert after.result == whole.result


def test_the_best_weights_survive_a_break(recipe, examples, tmp_path):
    values = [0.1, 0.3, 0.9, 0.2, 0.4, 0.2, 0.1, 0.1, 0.1]
    train = BEST | {"save_total_limit": 1}
    whole = trained(recipe, examples, tmp_path / "whole", train=train, evaluate=Judge(values))
    cut = Judge(values[:7])  # the eighth call raises IndexError
    with pytest.raises(IndexError):
        trained(recipe, examples, tmp_path / "cut", train=train, evaluate=cut)
    again = trained(recipe, examples, tmp_path / "cut", train=train, evaluate=Judge(values[6:]), resume=True)
    assert again.result == whole.result
    assert same(again.state, whole.state)


def test_going_on_with_other_data_or_settings_is_refused(recipe, examples, tmp_path):
    stopped_at(recipe, examples, tmp_path, 5)
    other = {**examples, "text": [*examples["text"][:-1], replace(examples["text"][-1], text="something else")]}
    for pools, train in ((other, None), (examples, {"learning_rate": 1e-5}), (examples, {"seed": 4})):
        with pytest.raises(UserError, match="checkpoint-4 belongs to another recipe or other data"):
            trained(recipe, pools, tmp_path, train=train, resume=True)


def test_a_damaged_checkpoint_is_named(recipe, examples, tmp_path):
    stopped_at(recipe, examples, tmp_path, 5)
    file = RunDir(tmp_path).checkpoint(4) / checkpoint.ADAPTER_FILE
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"checkpoint-4.*adapter_model\.safetensors.*damaged"):
        trained(recipe, examples, tmp_path, resume=True)


# -- shared stages ---------------------------------------------------------------------------------------------------


class Shelf(dict):
    """A store of stages in memory that counts."""

    loads = 0

    def load(self, key):
        self.loads += key in self
        return self.get(key)

    def save(self, key, state):
        assert key not in self
        self[key] = state


@pytest.fixture(scope="module")
def shelf_of_one(recipe, examples, tmp_path_factory) -> Shelf:
    """With the text stage of the recipe on it."""
    shelf = Shelf()
    trained(recipe, examples, tmp_path_factory.mktemp("first"), store=shelf)
    return shelf


def test_a_stage_that_was_trained_before_is_taken_over_and_changes_nothing(recipe, examples, whole, tmp_path):
    shelf = Shelf()
    first = trained(recipe, examples, tmp_path / "first", store=shelf)
    assert (len(shelf), first.result.shared_steps) == (1, 0)
    second = trained(recipe, examples, tmp_path / "second", store=shelf)
    assert (len(shelf), second.result.shared_steps, second.result.steps) == (1, 4, 9)
    assert same(first.state, whole.state)
    assert same(second.state, whole.state)
    fewer = {**examples, "speech": examples["speech"][:1]}
    third = trained(recipe, fewer, tmp_path / "third", store=shelf)
    assert third.result.shared_steps == 4, "the text stage does not depend on the recordings"
    assert same(third.state, trained(recipe, fewer, tmp_path / "third-alone").state)


def other_answer(rows: list[Example]) -> list[Example]:
    return [replace(rows[0], answer="{}"), *rows[1:]]


@pytest.mark.parametrize(
    "change",
    [
        "seed",
        "learning_rate",
        "batch",
        "weight_decay",
        "epochs",
        "warmup",
        "text",
        "answers",
        "tuner",
        "groups",
        "order",
    ],
)
def test_a_stage_is_shared_only_if_everything_that_made_it_is_the_same(
    change, recipe, examples, shelf_of_one, tmp_path
):
    shelf, stages, train = Shelf(shelf_of_one), list(TEXT_THEN_MIXED), {}
    if change in ("seed", "learning_rate", "weight_decay"):
        train = {change: {"seed": 1, "learning_rate": 1e-4, "weight_decay": 0.1}[change]}
    elif change == "batch":
        train = {"per_device_train_batch_size": 2}
    elif change == "epochs":
        stages[0] = replace(stages[0], epochs=3)
    elif change == "warmup":
        stages[0] = replace(stages[0], warmup_ratio=0.5)
    elif change == "text":
        examples = {**examples, "text": examples["text"][:-1]}
    elif change == "answers":
        examples = {**examples, "text": other_answer(examples["text"])}
    elif change == "order":
        examples = {**examples, "text": examples["text"][::-1]}
    elif change == "tuner":
        recipe = without_dropout(recipe)
    else:
        train = {"groups": ("llm.mlp",)}
    second = trained(recipe, examples, tmp_path / "second", stages, train=train, store=shelf)
    assert second.result.shared_steps == 0
    assert len(shelf) == 2


def test_what_does_not_touch_the_weights_does_not_keep_a_stage_from_being_shared(
    recipe, examples, shelf_of_one, tmp_path
):
    train = {"save_steps": 7, "logging_steps": 3, "save_total_limit": 1}
    done = trained(recipe, examples, tmp_path, train=train, store=Shelf(shelf_of_one))
    assert done.result.shared_steps == 4


def test_a_shared_run_that_was_broken_off_says_what_it_shared(recipe, examples, whole, shelf_of_one, tmp_path):
    shelf = Shelf(shelf_of_one)
    stopped_at(recipe, examples, tmp_path, 3, store=shelf)
    again = trained(recipe, examples, tmp_path, store=shelf, resume=True)
    assert again.result.shared_steps == 4
    assert same(again.state, whole.state)
