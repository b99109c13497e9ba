"""What frozen encoders hear is kept: the same losses, answers and weights with the cache, warm or cold, and without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from lalm import plugins
from lalm.backbones._native_cache import HEARD
from lalm.backbones._native_load import tiny_native
from lalm.config import parse_recipe
from lalm.data.cache import PreparedCache
from lalm.records import Example, Stage
from lalm.rundir import RunDir
from lalm.train.hearing import hear_ahead
from lalm.train.loop import fit
from lalm.train.setup import attach

RATE_HZ = 16_000
NAMES = ("audio_flamingo3", "glm_asr", "qwen2_5_omni", "qwen2_audio", "qwen3_asr", "voxtral")
INSTRUCTION = "Return one line of JSON."


def made(name: str, folder: Path | None, seed: int = 2, max_audio_s: float | None = None):
    """A tiny model that keeps what it hears in `folder`; `model.calls` grows with every call of its encoder."""
    backbone = plugins.load("backbones", name)
    cache = None if folder is None else PreparedCache(folder)
    model = tiny_native(backbone.FAMILY, backbone._tiny, seed, max_audio_s, cache)
    model.calls = []
    model.module.get_submodule(model.family.audio_encoder).register_forward_hook(lambda *_: model.calls.append(1))
    return model


@pytest.fixture
def rows(tmp_path: Path) -> list[Example]:
    rng, found = np.random.default_rng(5), []
    for number, seconds in enumerate((0.9, 0.4, 1.3)):
        path = tmp_path / f"{number}.flac"
        noise = rng.standard_normal(int(seconds * RATE_HZ))
        soundfile.write(path, 0.1 * np.linspace(1.0, 0.05, len(noise)) * noise, RATE_HZ)
        found.append(Example(str(number), INSTRUCTION, '{"a": "%s"}' % ("x" * number), audio=path))
    return [*found[:2], Example("said", INSTRUCTION, '{"a": "y"}', text="turn on the light"), found[2]]


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_losses_and_answers_are_those_without_a_cache(name, rows, tmp_path):
    plain, cold = made(name, None), made(name, tmp_path / "heard")
    expected = plain.loss(plain.batch(rows))[0]
    first = cold.loss(cold.batch(rows))[0]
    assert torch.allclose(first, expected, rtol=1e-5, atol=0)
    assert len(cold.calls) == len(entries(tmp_path / "heard")) == 3
    warm = made(name, tmp_path / "heard")
    assert torch.equal(warm.loss(warm.batch(rows))[0], first)
    assert warm.generate(rows, 4) == plain.generate(rows, 4)
    assert warm.audio_positions(rows) == plain.audio_positions(rows)
    assert warm.calls == []


@torch.no_grad()
def test_other_weights_lengths_and_formats_are_other_entries(rows, tmp_path):
    folder = tmp_path / "heard"
    models = [made("qwen2_audio", folder), made("qwen2_audio", folder, seed=3), made("qwen2_audio", folder, 2, 1.0)]
    models.append(made("qwen2_audio", folder))
    models[-1].module.to(torch.bfloat16)
    for number, model in enumerate(models, 1):
        model.batch(rows)
        assert len(entries(folder)) == 3 * number
    same = made("qwen2_audio", folder)
    same.batch(rows)
    assert same.calls == []
    soundfile.write(rows[0].audio, np.full(9_000, 0.1), RATE_HZ)
    same.batch(rows)
    assert same.calls == [1]


@torch.no_grad()
def test_bfloat16_is_read_as_it_was_computed(rows, tmp_path):
    cold, warm = (made("qwen2_audio", tmp_path / "heard") for _ in range(2))
    for model in (cold, warm):
        model.module.to(torch.bfloat16)
    computed = [cold._hear(cold.clips.features(cold.row(row).clips)) for row in rows if row.audio is not None]
    cold.batch(rows)
    found = warm.batch(rows).features[HEARD]
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, torch.cat(computed))


@torch.no_grad()
def test_a_damaged_entry_is_heard_anew(rows, tmp_path):
    model = made("qwen2_audio", tmp_path / "heard")
    expected = model.loss(model.batch(rows))[0]
    file = entries(tmp_path / "heard")[0]
    file.write_bytes(file.read_bytes()[:-7])
    again = made("qwen2_audio", tmp_path / "heard")
    assert torch.equal(again.loss(again.batch(rows))[0], expected)
    assert again.calls == [1]


@pytest.mark.parametrize("part", ["model.audio_tower", "model.multi_modal_projector"])
def test_nothing_is_kept_of_parts_that_are_trained_or_were(part, rows, tmp_path):
    model = made("qwen2_audio", tmp_path / "heard")
    trained = model.module.get_submodule(part).requires_grad_(True)
    loss, _ = model.loss(model.batch(rows))
    loss.sum().backward()
    assert all(one.grad is not None for name, one in trained.named_parameters() if "embed_positions" not in name)
    trained.requires_grad_(False)  # as after training, for the answers
    model.generate(rows, 2)
    assert entries(tmp_path / "heard") == []


def trained(model, rows, folder: Path) -> dict[str, torch.Tensor]:
    """Weights after two epochs of LoRA on the language model."""
    values = {
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "save_steps": 99,
        "bf16": False,
    }
    recipe = parse_recipe(
        {
            "data": {"corpus": "jsonl"},
            "backbone": {"name": "qwen2_audio"},
            "tuner": {"name": "lora", "r": 4},
            "train": values,
        },
        Path.cwd(),
    )
    names, identity = attach(recipe, model)
    folder.mkdir()
    stage = Stage("all", {"speech": 1.0, "text": 1.0}, epochs=2)
    pools = {"speech": [row for row in rows if row.audio], "text": [row for row in rows if not row.audio]}
    fit(model, names, [stage], pools, recipe.train, RunDir(folder), identity=identity, quiet=True)
    return {name: model.module.get_parameter(name).detach().clone() for name in names}


def test_training_with_the_cache_gives_the_weights_of_training_without_it(rows, tmp_path):
    without = trained(made("qwen2_audio", None), rows, tmp_path / "without")
    model = made("qwen2_audio", tmp_path / "heard")
    within = trained(model, rows, tmp_path / "within")
    assert len(model.calls) == 3, "once a recording, not once an epoch"
    assert max(float((within[name] - without[name]).abs().max()) for name in without) < 1e-4
    assert max(float(one.abs().max()) for name, one in without.items() if "lora_B" in name) > 5e-3, "it learned"


def test_recordings_are_heard_before_the_first_step(rows, tmp_path):
    model = made("qwen2_audio", tmp_path / "heard")
    spoken = {path for row in rows for path in row.recordings}
    hear_ahead(model, rows, quiet=True)
    assert len(entries(tmp_path / "heard")) == len(spoken) > 1
    model.clips.features = lambda clips: pytest.fail("heard again")
    assert HEARD in model.batch(rows).features
    assert made("qwen2_audio", None).to_hear(rows) == []
