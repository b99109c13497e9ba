"""One side of one measurement, in a process of its own: `python -m lalm.bench.worker FILE`, the answer as JSON on its last line."""

from __future__ import annotations

import json
import math
import resource
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lalm import plugins
from lalm.bench import flops
from lalm.bench.plain import PlainComposed, PlainNative
from lalm.bench.scenarios import Scenario, material
from lalm.config import Recipe, TrainSection, parse_recipe
from lalm.data.cache import PreparedCache
from lalm.records import Example, Stage
from lalm.rundir import RunDir, read_json
from lalm.train.loop import fit
from lalm.train.setup import attach
from lalm.train.steps import plan_steps

LEARNING_RATE = 1e-3


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
    rows = material(folder, scenario, lambda text: len(model.tokenizer(text, add_special_tokens=False)["input_ids"]))
    found: dict[str, Any] = {"ready_s": ready_s, "load_mb": _peak_mb()}
    work = {"train": _train, "equal": _equal, "answer": _answer}[asked["mode"]]
    found |= work(asked["side"], model, trainable, identity, recipe.train, rows, scenario, folder, asked["bf16"])
    found |= {"peak_mb": _peak_mb(), "flops": _flops(model, rows, scenario, asked["mode"])}
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


def _load(scenario: Scenario) -> Any:
    backbone = plugins.load("backbones", scenario.backbone)
    if scenario.backbone == "smol":
        model = backbone.load(backbone.Config(connector={"name": "mlp"}, tiny=scenario.tiny))
        model._cache = PreparedCache(None)  # what an earlier call kept on disk must not speak for the first epoch
        return model
    from lalm.bench.middle import middle_qwen2_audio

    return middle_qwen2_audio()


def _train(
    side: str,
    model: Any,
    trainable: Sequence[str],
    identity: Any,
    cfg: TrainSection,
    rows: Sequence[Example],
    scenario: Scenario,
    folder: Path,
    bf16: bool,
) -> dict[str, Any]:
    """Seconds of two epochs over the rows: in the first one nothing has been heard yet."""
    seconds = []
    if side == "lalm":
        stage = [Stage("speech", {"speech": 1.0}, epochs=1, warmup_ratio=0.0)]
        for epoch in range(2):
            begun = time.monotonic()
            run = _run_folder(folder / f"run-{epoch}")
            fit(model, trainable, stage, {"speech": rows}, cfg, run, identity=identity, store=_Forgetful(), quiet=True)
            seconds.append(time.monotonic() - begun)
        return {"epoch_s": seconds}
    plain = _plain(model)
    optimizer = _optimizer(model, trainable)
    model.module.train()
    for _ in range(2):
        begun = time.monotonic()
        for start in range(0, len(rows), scenario.batch_size):
            _plain_step(plain, rows[start : start + scenario.batch_size], optimizer, bf16)
        seconds.append(time.monotonic() - begun)
    return {"epoch_s": seconds}


def _equal(
    side: str,
    model: Any,
    trainable: Sequence[str],
    identity: Any,
    cfg: TrainSection,
    rows: Sequence[Example],
    scenario: Scenario,
    folder: Path,
    bf16: bool,
) -> dict[str, Any]:
    """Losses of twenty steps on the same rows in the same order, and the trained weights."""
    small = rows[: 2 * min(scenario.batch_size, 4)]
    cfg = cfg.model_copy(update={"per_device_train_batch_size": len(small) // 2})
    stage = [Stage("speech", {"speech": 1.0}, epochs=10, warmup_ratio=0.0)]
    steps = plan_steps(model, stage, {"speech": small}, cfg)
    if side == "lalm":
        run = _run_folder(folder / "equal")
        fit(model, trainable, stage, {"speech": small}, cfg, run, identity=identity, store=_Forgetful(), quiet=True)
        losses = [json.loads(line)["loss"] for line in run.log.read_text().splitlines() if '"loss"' in line]
    else:
        plain = _plain(model, as_lalm_hears=True)
        optimizer = _optimizer(model, trainable)
        model.module.train()
        chosen = [[small[index] for micro in step.micro_batches for _, index in micro] for step in steps]
        losses = [_plain_step(plain, examples, optimizer, bf16) for examples in chosen]
    parameters = dict(model.module.named_parameters())
    torch.save([parameters[name].detach() for name in trainable], folder / f"equal-{side}.pt")
    return {"losses": losses}


def _answer(
    side: str,
    model: Any,
    trainable: Sequence[str],
    identity: Any,
    cfg: TrainSection,
    rows: Sequence[Example],
    scenario: Scenario,
    folder: Path,
    bf16: bool,
) -> dict[str, Any]:
    """Seconds of answering a batch with answers of the scenario's length: recordings not heard before, and heard before."""
    model.module.eval()
    _never_end(model)
    chosen = rows[: scenario.batch_size]
    seconds, answers = [], []
    plain = _plain(model)
    for _ in range(2):
        begun = time.monotonic()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            if side == "lalm":
                answers = model.generate(chosen, scenario.answer_tokens, num_beams=1)
            else:
                answers = plain.generate(chosen, scenario.answer_tokens)
        seconds.append(time.monotonic() - begun)
    return {"answer_s": seconds, "num_answers": len(answers)}


def _run_folder(path: Path) -> RunDir:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return RunDir(path)


def _plain(model: Any, as_lalm_hears: bool = False) -> PlainComposed | PlainNative:
    return (PlainComposed if hasattr(model.module, "llm") else PlainNative)(model, as_lalm_hears)


def _optimizer(model: Any, trainable: Sequence[str]) -> torch.optim.Optimizer:
    parameters = dict(model.module.named_parameters())
    return torch.optim.AdamW([parameters[name] for name in trainable], lr=LEARNING_RATE, weight_decay=0.0)


def _plain_step(plain: Any, examples: Sequence[Example], optimizer: torch.optim.Optimizer, bf16: bool) -> float:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss, _ = plain.loss(examples)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _never_end(model: Any) -> None:
    """Answers go on to the length that is asked for, so that both sides write as many tokens."""
    if hasattr(model.module, "llm"):
        model._end_of_turn = -1
    else:
        model._prompts.eos_ids = []


def _flops(model: Any, rows: Sequence[Example], scenario: Scenario, mode: str) -> dict[str, float]:
    """Operations of one epoch (or of one batch of answers): of hearing and of the rest, plain and at the least."""
    sizes = _sizes(model)
    chosen = [rows[start : start + scenario.batch_size] for start in range(0, len(rows), scenario.batch_size)]
    if mode == "answer":
        chosen = chosen[:1]
    total = dict.fromkeys(("hear_plain", "hear", "rest_plain", "rest"), 0.0)
    for batch in chosen:
        load = _load_of(model, batch, with_answers=mode != "answer")
        total["hear_plain"] += flops.encoder(sizes, [flops.WINDOW_FRAMES] * len(batch))
        total["hear"] += flops.encoder(sizes, load.frames)
        for name, plain in (("rest_plain", True), ("rest", False)):
            if mode == "answer":
                total[name] += flops.answering(sizes, load, scenario.answer_tokens, plain)
            else:
                total[name] += flops.training(sizes, load, plain)
    return total


def _load_of(model: Any, batch: Sequence[Example], with_answers: bool) -> flops.Load:
    made = model.batch(batch)
    frames = [math.ceil(_num_samples(example) / 320) for example in batch]
    answers = sum(_answer_length(model, example) for example in batch)
    shared = len(getattr(made, "prefix", ()))
    own = [model.num_tokens(example) - (0 if with_answers else _answer_length(model, example)) for example in batch]
    if not hasattr(model.module, "llm"):
        shared = 0
    return flops.Load(frames, own, shared, answers)


def _answer_length(model: Any, example: Example) -> int:
    return len(model.row(example).answer)


def _num_samples(example: Example) -> int:
    import soundfile

    return int(soundfile.info(str(example.audio)).frames)


def _sizes(model: Any) -> flops.Sizes:
    composed = hasattr(model.module, "llm")
    encoder = model.module.audio_encoder.encoder if composed else model.module.model.audio_tower
    llm = model.module.llm.model if composed else model.module.model.language_model
    config = llm.config
    adapter = sum(p.numel() for name, p in llm.named_parameters() if "lora_" in name)
    return flops.Sizes(
        encoder_weights=sum(p.numel() for p in encoder.layers.parameters()),
        encoder_width=encoder.config.d_model,
        encoder_layers=len(encoder.layers),
        llm_weights=sum(p.numel() for p in llm.layers.parameters()) - adapter,
        llm_width=config.num_attention_heads
        * (getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads),
        llm_layers=config.num_hidden_layers,
        model_width=config.hidden_size,
        vocabulary=config.vocab_size,
        adapter=adapter,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
