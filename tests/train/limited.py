"""Trains a middle-sized random model with little memory, or measures a step; started as a program by the tests."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from lalm import plugins
from lalm.backbones._composed_model import ComposedModel
from lalm.backbones._tiny import byte_tokenizer
from lalm.config import TrainSection
from lalm.records import Example, Stage
from lalm.rundir import RunDir
from lalm.train.lean import recompute
from lalm.train.loop import fit
from lalm.train.memory import give_back_what_is_freed, longest_rows, model_bytes, rows_bytes

NUM_ROWS, ROW_CHARACTERS = 8, 200


def model() -> ComposedModel:
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
    )
    connector = plugins.load("connectors", "mlp")
    built = connector.build(24, 256, connector.Config())
    made = ComposedModel(
        None, built, LlamaForCausalLM(config), tokenizer, identity={"backbone": "middle", "licences": {}}
    )
    return made


def rows(mixed: bool) -> list[Example]:
    """Rows of like length; `mixed`: of two tasks in turn, with long instructions."""
    words = ["abc " * (ROW_CHARACTERS // 4 - number) for number in range(NUM_ROWS)]
    told = [f"Do {'this' if number % 2 else 'that'}. " * 20 if mixed else "Do." for number in range(NUM_ROWS)]
    return [
        Example(id=str(i), instruction=told[i], answer="yes " * 5, text=text[: 40 if mixed else None])
        for i, text in enumerate(words)
    ]


def resident() -> int:
    """Bytes of main memory that the process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def free_more(megabytes: int) -> None:
    """From now on the process gets so much more address space."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + megabytes * 2**20, resource.RLIM_INFINITY))


def main(out: Path, limit_mb: int, settings: str) -> None:
    torch.set_num_threads(1)
    given = json.loads(settings)
    made, examples = model(), rows(given.pop("mixed", False))
    tuner = plugins.load("tuners", "lora")
    torch.manual_seed(0)
    trainable = tuner.attach(made, ("llm.attention", "llm.mlp"), tuner.Config(r=4))
    cfg = TrainSection(per_device_train_batch_size=NUM_ROWS, bf16=False, **given)
    if cfg.gradient_checkpointing:
        recompute(made)
    give_back_what_is_freed()
    one, more = rows_bytes(made, longest_rows(made, examples), bf16=False)
    found = {"estimate": one + (NUM_ROWS - 1) * more, "model": model_bytes(made, trainable)}
    nll, _ = made.loss(made.batch(examples[:2]))  # what happens only once
    nll.sum().backward()
    made.module.zero_grad(set_to_none=True)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = resident()
    if limit_mb:
        free_more(limit_mb)
    (out / "run").mkdir()
    stage = [Stage("text", {"text": 1.0}, epochs=2, warmup_ratio=0.0)]
    fit(made, trainable, stage, {"text": examples}, cfg, RunDir(out / "run"), identity="x", quiet=True)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    status = Path("/proc/self/status").read_text()
    found["peak"] = 1024 * int(status.split("VmHWM:")[1].split()[0]) - before
    parameters = dict(made.module.named_parameters())
    save_file({name: parameters[name].detach().contiguous() for name in trainable}, out / "weights.safetensors")
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
