"""One side of one measurement, in a process of its own: `python -m lalm.bench.worker FILE`, the answer as JSON on its last line."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lalm import plugins
from lalm.bench.plain import PlainComposed, PlainNative
from lalm.bench.scenarios import REORDERED, Scenario, material
from lalm.bench.sizes import computed_tokens, flops_of, sizes_of, useful_tokens
from lalm.config import Recipe, TrainSection, parse_recipe
from lalm.data.cache import PreparedCache
from lalm.models.half import bfloat16_answers
from lalm.records import Example, Stage
from lalm.rundir import RunDir, read_json
from lalm.train.loop import fit
from lalm.train.setup import attach
from lalm.train.steps import plan_steps

LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class _Work:
    """What both sides are given: a model with adapters, rows, and how to train; `folder` is for what is written."""

    side: str
    model: Any
    trainable: Sequence[str]
    identity: Any
    cfg: TrainSection
    rows: Sequence[Example]
    scenario: Scenario
    folder: Path

    def fit(self, stage: Stage, rows: Sequence[Example], cfg: TrainSection, name: str) -> RunDir:
        """Train as `lalm train` does, in a new folder."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        pools, run = {"speech": rows}, RunDir(path)
        fit(
            self.model,
            self.trainable,
            [stage],
            pools,
            cfg,
            run,
            identity=self.identity,
            store=_Forgetful(),
            quiet=True,
        )
        return run

    def plain(self, as_lalm_hears: bool = False) -> PlainComposed | PlainNative:
        """The plain reference on the same weights."""
        side = PlainComposed if hasattr(self.model.module, "llm") else PlainNative
        return side(self.model, as_lalm_hears)

    def plain_steps(self, batches: Iterable[Sequence[Example]], as_lalm_hears: bool = False) -> Iterator[float]:
        """An optimizer step a batch, as a plain loop takes them; its losses."""
        plain = self.plain(as_lalm_hears)
        optimizer = torch.optim.AdamW(self.trained(), lr=LEARNING_RATE, weight_decay=0.0)
        self.model.module.train()
        for examples in batches:
            answer_tokens, total = sum(len(self.model.row(example).answer) for example in examples), 0.0
            for portion in self.scenario.in_plain_portions(examples):
                with self.autocast():
                    loss, num_tokens = plain.loss(portion)
                loss = loss * (num_tokens / answer_tokens)
                loss.backward()
                total += float(loss.detach())
            torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], self.cfg.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            yield total

    def autocast(self) -> torch.autocast:
        """As `lalm train` computes."""
        return torch.autocast(self.model.module.device.type, torch.bfloat16, enabled=bool(self.cfg.bf16))

    def trained(self) -> list[torch.nn.Parameter]:
        """The weights that are trained."""
        parameters = dict(self.model.module.named_parameters())
        return [parameters[name] for name in self.trainable]


class _Forgetful:
    """Shares no stage, and so spares the loop its last checkpoint: it is not what is measured."""

    def load(self, key: str) -> None:
        return None

    def save(self, key: str, state: dict[str, torch.Tensor]) -> None:
        pass


def main(file: Path) -> None:
    """Measure what the file asks for (`run.py` writes it)."""
    asked = read_json(file)
    scenario = Scenario(**asked["scenario"])
    torch.set_num_threads(asked["threads"])
    folder = Path(asked["folder"])
    recipe = _recipe(scenario, asked["bf16"])
    begun = time.monotonic()
    model = _load(scenario)
    trainable, identity = attach(recipe, model)
    ready_s = time.monotonic() - begun
    if asked["mode"] == "start":
        print(json.dumps({"since_start_s": time.time() - asked["begun"], "load_s": ready_s, "peak_mib": _peak_mib()}))
        return
    rows = material(folder, scenario, _counting(model))
    found: dict[str, Any] = {"load_mib": _peak_mib()}
    measure = {"train": _train, "equal": _equal, "answer": _answer}[asked["mode"]]
    found |= measure(_Work(asked["side"], model, trainable, identity, recipe.train, rows, scenario, folder))
    found |= {
        "peak_mib": _peak_mib(),
        "device": _device(model),
        "flops": flops_of(model, rows, scenario, asked["mode"]),
    }
    found |= {"useful_tokens": useful_tokens(model, rows), "computed_tokens": computed_tokens(model, rows, scenario)}
    found |= {"llm_weights": sizes_of(model).llm_weights}
    print(json.dumps(found))


def _recipe(scenario: Scenario, bf16: bool) -> Recipe:
    values = {
        "data": {"corpus": "jsonl"},
        "backbone": {"name": scenario.backbone},
        "tuner": {"name": "lora", "r": 16},
        "train": {
            "learning_rate": LEARNING_RATE,
            "lr_scheduler_type": "constant",
            "per_device_train_batch_size": scenario.batch_size,
            "bf16": bf16,
            "logging_steps": 1,
        },
    }
    return parse_recipe(values, Path.cwd())


def _counting(model: Any) -> Callable[[str], int]:
    return lambda text: len(model.tokenizer(text, add_special_tokens=False)["input_ids"])


def _load(scenario: Scenario) -> Any:
    """The model, on the GPU if there is one; nothing was heard before (`run.py` sets LALM_CACHE_GB to 0)."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if scenario.backbone == "smol":
        backbone = plugins.load("backbones", "smol")
        model = backbone.load(backbone.Config(connector={"name": "mlp"}, tiny=scenario.size == "tiny"))
        model.module.to(device)
        return model
    from lalm.bench.random_weights import qwen2_audio

    return qwen2_audio(scenario.size, device, PreparedCache(None), scenario.instruction_first)


def _train(work: _Work) -> dict[str, Any]:
    """Seconds of two epochs over the rows: in the first one nothing has been heard yet.

    On a GPU after a step over other rows: kernels are loaded when they are first asked for.
    """
    size, seconds = work.scenario.batch_size, []
    stage = Stage("speech", {"speech": 1.0}, epochs=1, warmup_ratio=0.0)
    batches = [work.rows[start : start + size] for start in range(0, len(work.rows), size)]
    others = _others(work) if torch.cuda.is_available() else []
    steps = work.plain_steps([*([others] if others else []), *batches * 2])
    if others and work.side == "lalm":
        work.fit(stage, others, work.cfg, "run-others")
    elif others:
        next(steps)
    _wait()
    for epoch in range(2):
        begun = time.monotonic()
        if work.side == "lalm":
            work.fit(stage, work.rows, work.cfg, f"run-{epoch}")
        else:
            for _ in batches:
                next(steps)
        _wait()
        seconds.append(time.monotonic() - begun)
    return {"epoch_s": seconds}


def _others(work: _Work) -> list[Example]:
    """A batch of rows like those that are measured, of other lengths and words."""
    folder = work.folder / "others"
    folder.mkdir(exist_ok=True)
    return material(folder, replace(work.scenario, name="others", num_steps=1), _counting(work.model))


def _equal(work: _Work) -> dict[str, Any]:
    """Losses of twenty steps on the same rows in the same order; the trained weights go to a file.

    The side `REORDERED` is the plain reference with the rows of every step the other way round: what rounding does to it.
    """
    small = work.rows[: 2 * min(work.scenario.batch_size, 4)]
    cfg = work.cfg.model_copy(update={"per_device_train_batch_size": len(small) // 2})
    stage = Stage("speech", {"speech": 1.0}, epochs=10, warmup_ratio=0.0)
    if work.side == "lalm":
        run = work.fit(stage, small, cfg, "equal")
        losses = [json.loads(line)["loss"] for line in run.log.read_text().splitlines() if '"loss"' in line]
    else:
        steps = plan_steps(work.model, [stage], {"speech": small}, cfg)
        batches = [[small[index] for micro in step.micro_batches for _, index in micro] for step in steps]
        if work.side == REORDERED:
            batches = [batch[::-1] for batch in batches]
        losses = list(work.plain_steps(batches, as_lalm_hears=True))
    weights = {name: one.detach() for name, one in zip(work.trainable, work.trained(), strict=True)}
    save_file(weights, work.folder / f"equal-{work.side}.safetensors")
    return {"losses": losses}


def _answer(work: _Work) -> dict[str, Any]:
    """Seconds of answering a batch with answers of the scenario's length: recordings not heard before, and heard before.

    On a GPU after a batch of other rows, as in `_train`.
    """
    work.model.module.eval()
    rows, num_new, seconds = work.rows[: work.scenario.batch_size], work.scenario.answer_tokens, []
    plain = work.plain() if work.side == "plain" else None  # it gives the model's parts their own classes back
    numbers = work.autocast() if plain else bfloat16_answers(work.model, bool(work.cfg.bf16))
    with numbers:  # as trainers answer, and as `lalm predict` does
        for batch in (*([_others(work)] if torch.cuda.is_available() else []), rows, rows):
            begun = time.monotonic()
            if plain is None:
                work.model.generate(batch, num_new, min_new_tokens=num_new)
            else:
                plain.generate(batch, num_new)
            _wait()
            seconds.append(time.monotonic() - begun)
    return {"answer_s": seconds[-2:]}


def _peak_mib() -> float:
    """Most memory so far, in MiB: of the GPU if there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _device(model: Any) -> str:
    return torch.cuda.get_device_name() if model.module.device.type == "cuda" else "cpu"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
