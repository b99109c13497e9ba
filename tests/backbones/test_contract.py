"""One contract for every backbone: it hears, in any batch, and learns the answer and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from lalm import plugins
from lalm.errors import DataError
from lalm.records import Example
from lalm.tuners import full, lora

NAMES = plugins.names("backbones")
NATIVE = (
    "audio_flamingo3",
    "glm_asr",
    "qwen2_5_omni",
    "qwen2_audio",
    "qwen3_asr",
    "voxtral",
)  # a class of transformers each
RATE_HZ = 16_000


def test_every_file_of_the_folder_is_held_against_the_contract():
    folder = Path(plugins.__file__).parent / "backbones"
    files = [path for path in folder.glob("*.py") if not path.name.startswith("_")]
    assert len(NAMES) == len(files) == 9
    assert set(NAMES) == {"smol", "gemma", "composed", *NATIVE}


def voice(seconds: float, pitch_hz: float) -> np.ndarray:
    """A hum with syllables: harmonics of a pitch, swelling four times a second."""
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    hum = sum(np.sin(2 * np.pi * pitch_hz * k * time_s) / k for k in range(1, 12))
    return 0.1 * hum * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time_s))


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sounds")
    waves = {
        "low": voice(1.3, 110),
        "high": voice(1.3, 220),
        "silence": np.zeros(int(1.3 * RATE_HZ)),
        "short": voice(0.4, 140),
        "long": voice(3.1, 180),
    }
    for name, wave in waves.items():
        soundfile.write(folder / f"{name}.wav", wave, RATE_HZ)
    return {name: folder / f"{name}.wav" for name in waves}


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    return plugins.load("backbones", name).make_tiny(0)


INSTRUCTION = "Say what is wanted, as JSON."


def spoken(sounds, name: str, answer: str = '{"intent": "light_on"}') -> Example:
    return Example(name, INSTRUCTION, answer, audio=sounds[name])


def written(number: int) -> Example:
    text = " ".join(["please", "turn", "on", "the", "light", "in", "the", "hall"][: 2 + number])
    return Example(f"text-{number}", INSTRUCTION, '{"intent": "light_%s"}' % ("on" * number), text=text)


def nll(model, examples) -> torch.Tensor:
    with torch.no_grad():
        return model.loss(model.batch(examples))[0].double()


NOISE = 1e-5  # rounding of float32 over a few hundred positions, relative
HEARD = 1e-3  # what another sound must change at least, relative


def test_the_same_audio_gives_the_same_answer_and_other_audio_another(model, sounds):
    low, again, high = (nll(model, [spoken(sounds, name)]) for name in ("low", "low", "high"))
    assert torch.equal(low, again)
    assert not torch.allclose(low, high, rtol=HEARD, atol=0)


def test_silence_is_not_speech_and_not_nothing(model, sounds):
    speech, silence = (nll(model, [spoken(sounds, name)]) for name in ("low", "silence"))
    nothing = nll(model, [replace(spoken(sounds, "low"), audio=None, text="")])
    for one, other in ((speech, silence), (speech, nothing), (silence, nothing)):
        assert not torch.allclose(one, other, rtol=HEARD, atol=0)


def test_a_recording_written_anew_is_heard_anew(model, sounds, tmp_path):
    path = tmp_path / "clip.wav"
    example = Example("clip", INSTRUCTION, "{}", audio=path)
    path.write_bytes(sounds["low"].read_bytes())
    first = nll(model, [example])
    path.write_bytes(sounds["high"].read_bytes())
    second = nll(model, [example])
    assert torch.equal(first, nll(model, [replace(example, audio=sounds["low"])]))
    assert torch.equal(second, nll(model, [replace(example, audio=sounds["high"])]))
    assert not torch.equal(first, second)


def mixed(sounds) -> list[Example]:
    names = ("low", "silence", "short", "long")
    return [
        row
        for number, name in enumerate(names)
        for row in (replace(spoken(sounds, name), answer="{}" * (1 + number)), written(2 * number))
    ]


def test_a_batch_of_eight_equals_eight_batches_of_one(model, sounds):
    examples = mixed(sounds)
    together = nll(model, examples)
    alone = torch.cat([nll(model, [example]) for example in examples])
    assert len(together) == 8
    assert torch.allclose(together, alone, rtol=NOISE, atol=0), (together, alone)


def test_text_rows_are_not_changed_by_audio_rows_beside_them(model, sounds):
    examples = mixed(sounds)
    texts = [example for example in examples if example.audio is None]
    beside = nll(model, examples)[[example.audio is None for example in examples]]
    assert torch.allclose(beside, nll(model, texts), rtol=NOISE, atol=0)


def test_answers_do_not_depend_on_the_batch(model, sounds):
    examples = mixed(sounds)
    together = model.generate(examples, 12)
    assert together == [model.generate([example], 12)[0] for example in examples]
    assert len(set(together)) > 1


def test_the_loss_is_on_the_answer_and_its_end_and_nothing_else(model, sounds):
    examples = [*mixed(sounds), Example("umlaut", INSTRUCTION, '{"drink": "café ☕"}', text="einen Kaffee")]
    batch = model.batch(examples)
    end = model.tokenizer.eos_token
    assert batch.decoded_labels(model.tokenizer) == [example.answer + end for example in examples]
    _, counts = model.loss(batch)
    ids = [model.tokenizer(example.answer + end, add_special_tokens=False)["input_ids"] for example in examples]
    assert counts.tolist() == [len(one) for one in ids]
    for prompt, example in zip(batch.decoded_prompts(model.tokenizer), examples, strict=True):
        assert INSTRUCTION in prompt
        assert example.answer not in prompt
        assert ("[audio]" if example.audio else example.text) in prompt


def test_longer_recordings_are_longer_rows(name, model, sounds):
    lengths = [model.num_tokens(spoken(sounds, sound)) for sound in ("short", "low", "high", "long")]
    assert lengths[1] == lengths[2]
    if name == "voxtral":  # every clip fills a window of thirty seconds
        assert lengths[0] == lengths[1] == lengths[3] > 375
    else:
        assert lengths[0] < lengths[1] < lengths[3]


def test_a_clip_that_is_too_long_is_named_and_not_cut(model, tmp_path):
    longest_s = getattr(model, "longest_audio_s", None) or 210.0  # None: as long as there are positions
    path = tmp_path / "too_long.flac"
    soundfile.write(path, np.zeros(int((longest_s + 1) * RATE_HZ), np.int16), RATE_HZ)
    row = Example("too_long", INSTRUCTION, "{}", audio=path)
    with pytest.raises(DataError, match=r"(?s)'too_long'.*(\d s of audio.*at most \d+ s|positions)"):
        model.batch([written(1), row])
    with pytest.raises(DataError, match="too_long"):
        model.generate([row], 4)


def test_a_text_that_is_too_long_is_named_and_not_cut(model):
    row = Example("novel", INSTRUCTION, "{}", text="light " * 4000)
    with pytest.raises(DataError, match=r"'novel'.*positions"):
        model.batch([row])


def test_a_missing_recording_and_a_row_without_input_are_named(model, tmp_path):
    with pytest.raises(DataError, match=r"(?s)'gone'.*gone\.wav"):
        model.batch([Example("gone", INSTRUCTION, "{}", audio=tmp_path / "gone.wav")])
    with pytest.raises(DataError, match=r"'empty'.*neither text nor audio"):
        model.batch([Example("empty", INSTRUCTION, "{}")])


def language_model(model) -> tuple[str, nn.Module]:
    """The language model and its name within the whole, found by its class alone."""
    found = [
        (name, part)
        for name, part in model.module.named_modules()
        if hasattr(part, "embed_tokens") and isinstance(getattr(part, "layers", None), nn.ModuleList)
    ]
    return max(found, key=lambda item: sum(p.numel() for p in item[1].parameters()))


def test_every_group_names_modules_and_no_parameter_is_in_two(model):
    modules = dict(model.module.named_modules())
    parameters = {id(p): name for name, p in model.module.named_parameters()}
    owner: dict[int, str] = {}
    for group, names in model.groups().items():
        for name in names:
            for parameter in modules[name].parameters():
                assert owner.setdefault(id(parameter), group) == group, parameters[id(parameter)]
    _, llm = language_model(model)
    heads = [part for name, part in modules.items() if name.rpartition(".")[2] == "lm_head"]
    assert len(heads) == 1
    for part in (llm, heads[0]):
        for name, parameter in part.named_parameters():
            group = owner[id(parameter)]
            assert group.startswith("llm."), (name, group)
            expected = {"self_attn": "llm.attention", "mlp": "llm.mlp"}
            wanted = [kind for key, kind in expected.items() if f".{key}." in name and parameter.dim() == 2]
            assert wanted == [] or wanted == [group], (name, group)
    assert not any(p.requires_grad for p in model.module.parameters())


@pytest.mark.parametrize("tuner", [lora, full])
def test_a_tuner_changes_the_groups_it_is_given_and_nothing_else(name, tuner, sounds):
    model = plugins.load("backbones", name).make_tiny(0)
    before = {name: p.detach().clone() for name, p in model.module.named_parameters()}
    groups = ("llm.attention", "llm.mlp")
    owners = [f"{part}." for group in groups for part in model.groups()[group]]
    trained = tuner.attach(model, groups, tuner.Config())
    assert all(any(f"{name}.".startswith(owner) for owner in owners) for name in trained)
    llm_name, _ = language_model(model)
    assert all(name.startswith(f"{llm_name}.") for name in trained)
    hit = {owner for owner in owners if any(f"{name}.".startswith(owner) for name in trained)}
    assert hit == set(owners)

    model.module.train()
    rows = [spoken(sounds, "low"), written(1)]
    optimizer = torch.optim.SGD([p for p in model.module.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # the first step of LoRA moves B alone
        optimizer.zero_grad()
        model.loss(model.batch(rows))[0].sum().backward()
        optimizer.step()
    after = {name.replace(".base_layer", ""): p for name, p in model.module.named_parameters()}
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == (set(trained) if tuner is full else set())
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for name, p in model.module.named_parameters() if name in trained
    )


def test_placeholders_are_as_many_as_what_is_heard(model, sounds):
    examples = mixed(sounds)
    placeholders, vectors = model.audio_positions(examples)
    assert placeholders == vectors > 0
    assert model.audio_positions([written(1)]) == (0, 0)
    lengths = [model.num_tokens(example) for example in examples]
    one = [model.audio_positions([example])[0] for example in examples]
    assert sum(one) == placeholders
    assert all(length > number for length, number in zip(lengths, one, strict=True))


def test_the_loss_falls_on_what_the_head_says_of_the_answer(model, sounds):
    """All logits of a whole row, one row at a time, and torch's cross-entropy over the last so many of them."""
    head = next(part for name, part in model.module.named_modules() if name.rpartition(".")[2] == "lm_head")
    for example in mixed(sounds):
        seen: list[torch.Tensor] = []
        handle = head.register_forward_hook(lambda _, states, logits, seen=seen: seen.append(logits))
        nll, count = model.loss(model.batch([example]))
        handle.remove()
        text = example.answer + model.tokenizer.eos_token
        ids = torch.tensor(model.tokenizer(text, add_special_tokens=False)["input_ids"])
        logits = seen[-1].reshape(-1, seen[-1].shape[-1])
        assert logits.shape[0] == len(ids) == int(count[0])  # the head was asked for nothing else
        assert torch.allclose(nn.functional.cross_entropy(logits, ids, reduction="sum"), nll[0], rtol=NOISE)
