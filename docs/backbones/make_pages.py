"""Writes a page for every backbone from its docstring and options: `python docs/backbones/make_pages.py`."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

from lalm import plugins

FOLDER = Path(__file__).parent
COMPOSED = ("composed", "smol", "gemma")

MEMORY = """## Memory

Sums over the nominal number of parameters, not measurements; activations come on top, and `lalm check RECIPE` measures a step on
the machine where it is run.

| size | weights, bfloat16 | weights, float32 | language model in four bits | full tuning on one GPU | full tuning, each of 8 GPUs (`fsdp2.yaml`) |
|---|---|---|---|---|---|
{rows}

Full tuning counts 16 bytes a parameter: float32 weights, a gradient and AdamW's two values. LoRA adds these for its own few
million parameters alone.
"""

STUDIES = """## The study's runs

The curriculum of arXiv 2509.15389 on SLURP, with full tuning of the language model on 8 GPUs of 80 GB, and with LoRA on one:

```console
$ accelerate launch --config_file recipes/accelerate/fsdp2.yaml -m lalm train recipes/qwen2_audio_slurp.yaml \\
    {full}train.gradient_accumulation_steps=2 --out out/slurp
$ lalm train recipes/qwen2_audio_slurp.yaml {lora}tuner=lora train.groups=[llm.attention,llm.mlp] \\
    train.learning_rate=1e-4 backbone.dtype=bfloat16 --out out/slurp-lora
```

On Speech-MASSIVE (French here; `docs/data.md` says how its folder looks), the same with the corpus exchanged:

```console
$ accelerate launch --config_file recipes/accelerate/fsdp2.yaml -m lalm train recipes/qwen2_audio_slurp.yaml \\
    {full}train.gradient_accumulation_steps=2 \\
    'data.corpus={{name: speech_massive, locale: fr-FR, train: train}}' data.root=speech-massive --out out/massive-fr
$ lalm train recipes/qwen2_audio_slurp.yaml {lora}tuner=lora train.groups=[llm.attention,llm.mlp] \\
    train.learning_rate=1e-4 backbone.dtype=bfloat16 \\
    'data.corpus={{name: speech_massive, locale: fr-FR, train: train}}' data.root=speech-massive --out out/massive-fr-lora
```

Other shares of speech: `data.speech_share=0.02`; other schemes: `scheme=text_only`, `scheme=direct_mixing`. First of all:
`lalm check recipes/qwen2_audio_slurp.yaml {lora}--hear`, with `backbone.tiny=true` where there are no weights.
"""


def page(name: str) -> str:
    """The page of a backbone."""
    module = plugins.load("backbones", name)
    title, _, body = (module.__doc__ or "").strip().partition("\n")
    parts = [
        f"# `{name}`\n",
        f"*Made from `src/lalm/backbones/{name}.py` by `python docs/backbones/make_pages.py`. All backbones: [backbones.md](../backbones.md).*\n",
        f"{title}\n",
        f"{body.strip()}\n",
        f"## Options\n\n{_options(module)}\n",
    ]
    sizes = re.findall(r"(?<![\w.])(\d+(?:\.\d+)?)B\b", title)
    if sizes:
        parts.append(MEMORY.format(rows="\n".join(_memory(float(size)) for size in sizes)))
    if name not in COMPOSED:
        same = name == "qwen2_audio"
        full = "" if same else f"'backbone={{name: {name}, dtype: float32}}' "
        parts.append(STUDIES.format(full=full, lora="" if same else f"backbone={name} "))
    return "\n".join(parts)


def _options(module: ModuleType) -> str:
    rows = ["| option of `backbone` | default | |", "|---|---|---|"]
    for key, field in module.Config.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = getattr(default, "name", default)
        rows.append(f"| `{key}` | `{'none' if shown is None else shown}` | {field.description} |")
    return "\n".join(rows)


def _memory(billions: float) -> str:
    cells = [2 * billions, 4 * billions, 0.55 * billions, 16 * billions, 2 * billions]
    return (
        f"| {billions:g}B | " + " | ".join(f"{cell:.2g} GB" if cell < 10 else f"{cell:.0f} GB" for cell in cells) + " |"
    )


if __name__ == "__main__":
    for one in plugins.names("backbones"):
        (FOLDER / f"{one}.md").write_text(page(one), encoding="utf-8")
