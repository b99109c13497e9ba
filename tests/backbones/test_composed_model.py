"""The composed model's short cuts (shared prefix, kept lower layers, logits on answers alone) against transformers' own
forward pass over whole padded rows: losses, gradients and generated answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    WhisperFeatureExtractor,
)

from lalm import plugins
from lalm.backbones import _answer_loss, _attention, _stack
from lalm.backbones._composed_model import ComposedModel
from lalm.backbones._composed_rows import by_beginning
from lalm.backbones._encoder import AudioEncoder
from lalm.backbones._tiny import byte_tokenizer, tiny_llm, tiny_whisper
from lalm.connectors import mlp
from lalm.data.cache import PreparedCache
from lalm.records import Example
from lalm.train import lean
from lalm.tuners import full, lora

IGNORED = -100
INSTRUCTIONS = ("Say what is wanted, as JSON.", "Say what is ordered, as JSON.")
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.2,
    "tie_word_embeddings": True,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
FAMILIES = {
    "llama": lambda size: tiny_llm(size),
    "qwen2": lambda size: Qwen2ForCausalLM(Qwen2Config(vocab_size=size, **SHAPE)).eval(),
    "qwen3": lambda size: Qwen3ForCausalLM(Qwen3Config(vocab_size=size, **SHAPE)).eval(),
    "gemma": lambda size: GemmaForCausalLM(GemmaConfig(vocab_size=size, **SHAPE)).eval(),  # not run layer by layer
}


def make(family: str = "llama", cache: PreparedCache | None = None) -> ComposedModel:
    torch.manual_seed(1)
    whisper, tokenizer = tiny_whisper(), byte_tokenizer()
    llm = FAMILIES[family](len(tokenizer))
    encoder = AudioEncoder(whisper.model.encoder, WhisperFeatureExtractor())
    connector = mlp.build(encoder.width, llm.config.hidden_size, mlp.Config())
    return ComposedModel(encoder, connector, llm, tokenizer, identity={"connector": "mlp"}, cache=cache)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    """Texts and recordings of several lengths under two instructions that begin alike."""
    root = tmp_path_factory.mktemp("barista")
    plugins.load("corpora", "barista").make_tiny(root, seed=3)
    recordings = sorted((root / "audio").glob("*.flac"))[:4]
    texts = ["a latte", "make me a large mocha please", "no", "can I have a small one"]
    answers = ['{"intent": "order"}', "{}", '{"intent": "order", "slots": [{"size": "large"}]}', "[1]"]
    rows = []
    for i in range(4):
        rows.append(Example(f"t{i}", INSTRUCTIONS[i % 2], answers[i], text=texts[i]))
        rows.append(Example(f"s{i}", INSTRUCTIONS[i // 2], answers[3 - i], audio=recordings[i]))
    return rows


def whole_rows(model: ComposedModel, examples) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings, mask and labels of whole rows, made piece by piece and padded on the left; none of the model's code."""
    llm, tokenizer, connector = model.module.llm, model.tokenizer, model.module.connector
    table = llm.get_input_embeddings()
    rows, labels = [], []
    for example in examples:
        turns = [{"role": "system", "content": example.instruction}, {"role": "user", "content": "<|here|>"}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        before, after = (tokenizer(part)["input_ids"] for part in text.split("<|here|>"))
        answer = tokenizer(example.answer + tokenizer.eos_token)["input_ids"]
        if example.audio is not None:
            frames, mask = model.module.audio_encoder.frames([example.audio])
            middle = connector(connector.prepare(frames.detach(), mask))[0][0]
        else:
            middle = table(torch.tensor(tokenizer(example.text)["input_ids"]))
        rows.append(torch.cat([table(torch.tensor(before)), middle, table(torch.tensor(after + answer))]))
        labels.append(torch.tensor([IGNORED] * (len(rows[-1]) - len(answer)) + answer))
    width = max(len(row) for row in rows)
    left = [width - len(row) for row in rows]
    embeddings = torch.stack([nn.functional.pad(row, (0, 0, n, 0)) for row, n in zip(rows, left, strict=True)])
    mask = torch.stack([torch.arange(width) >= n for n in left])
    padded = [nn.functional.pad(one, (n, 0), value=IGNORED) for one, n in zip(labels, left, strict=True)]
    return embeddings, mask, torch.stack(padded)


def plain_nll(model: ComposedModel, examples) -> torch.Tensor:
    """Summed negative log-likelihood a row: full logits, labels shifted by one, cross entropy spelled out."""
    embeddings, mask, labels = whole_rows(model, examples)
    positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
    logits = model.module.llm(inputs_embeds=embeddings, attention_mask=mask.long(), position_ids=positions).logits
    log_probs = logits[:, :-1].double().log_softmax(dim=-1)
    targets = labels[:, 1:]
    picked = log_probs.gather(2, targets.clamp(min=0)[..., None])[..., 0]
    return -(picked * (targets != IGNORED)).sum(dim=1)


def gradients(model: ComposedModel, names, nll: torch.Tensor) -> dict[str, torch.Tensor]:
    parameters = dict(model.module.named_parameters())
    model.module.zero_grad(set_to_none=True)
    (nll.sum() / 17).backward()
    found = {name: parameters[name].grad for name in names}
    model.module.zero_grad(set_to_none=True)
    return {name: torch.zeros_like(parameters[name]) if grad is None else grad.clone() for name, grad in found.items()}


ALL_LLM = ("llm.attention", "llm.mlp")
TUNINGS = {
    "lora": (lora, ALL_LLM, lora.Config(r=4)),
    "lora, last layer": (lora, ALL_LLM, lora.Config(r=4, last_layers=1)),
    "lora, connector too": (lora, (*ALL_LLM, "connector"), lora.Config(r=4, last_layers=1)),
    "full": (full, ("llm.attention", "llm.mlp", "llm.norms"), full.Config()),
    "full, everything": (full, (*ALL_LLM, "llm.norms", "llm.embeddings", "connector"), full.Config()),
}


def attach(model: ComposedModel, tuning: str) -> list[str]:
    tuner, groups, cfg = TUNINGS[tuning]
    names = tuner.attach(model, groups, cfg)
    torch.manual_seed(5)
    for name, parameter in model.module.named_parameters():
        if "lora_B" in name:  # zero at first, which would hide the gradient of A
            parameter.data.normal_(std=0.1)
    return names


@pytest.mark.parametrize("tuning", TUNINGS)
def test_losses_and_gradients_are_those_of_the_plain_forward_pass(tuning, examples):
    model = make()
    names = attach(model, tuning)
    expected = plain_nll(model, examples)
    wanted = gradients(model, names, expected)
    for round_ in range(2):  # the second time lower layers come from what was kept
        nll, counts = model.loss(model.batch(examples))
        assert torch.allclose(nll.double(), expected, rtol=1e-5, atol=0), round_
        assert counts.tolist() == [len(e.answer) + 1 for e in examples]
        got = gradients(model, names, nll)
        for name in names:
            assert torch.allclose(got[name], wanted[name], rtol=1e-3, atol=1e-5), (round_, name)
    assert any(grad.abs().max() > 1e-3 for grad in wanted.values())


def test_rows_too_long_for_attention_in_portions_give_the_same(examples, monkeypatch):
    monkeypatch.setattr(_attention, "MAX_ROW", 0)
    model = make()
    names = attach(model, "lora")
    expected = plain_nll(model, examples)
    nll, _ = model.loss(model.batch(examples))
    assert torch.allclose(nll.double(), expected, rtol=1e-5, atol=0)
    wanted, got = gradients(model, names, expected), gradients(model, names, nll)
    assert all(torch.allclose(got[name], wanted[name], rtol=1e-3, atol=1e-5) for name in names)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_logits_in_chunks_give_the_same(tuning, examples, monkeypatch):
    model = make()
    names = attach(model, tuning)
    expected = plain_nll(model, examples)
    wanted = gradients(model, names, expected)
    made = []
    model.module.llm.get_output_embeddings().register_forward_hook(lambda _, __, logits: made.append(logits.numel()))
    monkeypatch.setattr(_answer_loss, "AT_ONCE", 3 * len(model.tokenizer))
    nll, _ = model.loss(model.batch(examples))
    assert torch.allclose(nll.double(), expected, rtol=1e-5, atol=0)
    got = gradients(model, names, nll)
    assert all(torch.allclose(got[name], wanted[name], rtol=1e-3, atol=1e-5) for name in names)
    assert max(made) <= 3 * len(model.tokenizer)
    assert len(made) > 10


def test_rows_of_two_tasks_share_the_beginning_of_their_own(examples, monkeypatch):
    """Instructions that are longer than all else are computed once a task, and nothing else changes."""
    told = ["Write down what is said. " * 8, "Say what is wanted, as JSON. " * 8]
    rows = [replace(one, instruction=told[number % 3 % 2]) for number, one in enumerate(examples)]
    model = make()
    names = attach(model, "lora")
    expected = plain_nll(model, rows)
    positions = []
    run = _stack.run_layers
    monkeypatch.setattr(
        _stack, "run_layers", lambda *given: positions.append((given[3].shape[1], int(given[5].sum()))) or run(*given)
    )
    nll, counts = model.loss(model.batch(rows))
    assert torch.allclose(nll.double(), expected, rtol=1e-5, atol=0)
    assert counts.tolist() == [len(one.answer) + 1 for one in rows], "in the order of the rows"
    wanted, got = gradients(model, names, expected), gradients(model, names, nll)
    assert all(torch.allclose(got[name], wanted[name], rtol=1e-3, atol=1e-5) for name in names)
    assert len(positions) == 2
    assert min(start for start, _ in positions) > 150, "the whole instruction"
    whole = sum(len(row.before) for row in map(model.row, rows))
    assert sum(start + rest for start, rest in positions) < sum(map(model.num_tokens, rows)) + whole / 2


def test_few_rows_with_little_in_common_go_through_together(examples):
    rows = [replace(one, instruction=f"{number} is another.") for number, one in enumerate(examples)]
    model = make()
    batch = model.batch(rows)
    assert [places for places, _ in by_beginning(batch, model.module.num_vectors)] == [list(range(len(rows)))]


def test_what_becomes_of_beginnings_is_said():
    model = make("gemma")
    assert "copied to each row (the family gemma is none of llama" in model.beginnings
    lean.recompute(model)
    assert model.beginnings.startswith("computed for each row (the family gemma")
    assert make().beginnings == "computed once a step, and seen by all rows"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_with_layers_computed_again(family, examples):
    model = make(family)
    names = attach(model, "lora, last layer")
    wanted = gradients(model, names, plain_nll(model, examples))
    lean.recompute(model)
    model.module.train()
    got = gradients(model, names, model.loss(model.batch(examples))[0])
    assert all(torch.allclose(got[name], wanted[name], rtol=1e-3, atol=1e-5) for name in names)
    assert len(model.generate(examples, 3)) == len(examples)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_the_plain_losses(family, examples):
    model = make(family)
    assert _stack.supports(model.module.llm) == (family != "gemma")
    names = attach(model, "lora, last layer")
    expected = plain_nll(model, examples)
    wanted = gradients(model, names, expected)
    for _ in range(2):
        nll, _counts = model.loss(model.batch(examples))
        assert torch.allclose(nll.double(), expected, rtol=1e-5, atol=0)
        got = gradients(model, names, nll)
        assert all(torch.allclose(got[name], wanted[name], rtol=1e-3, atol=1e-5) for name in names)


def test_an_attention_that_cannot_take_the_mask_is_run_the_plain_way(examples):
    model = make()
    expected = plain_nll(model, examples)
    model.module.llm.set_attn_implementation("eager")
    assert not _stack.supports(model.module.llm)
    assert torch.allclose(model.loss(model.batch(examples))[0].double(), expected, rtol=1e-5, atol=0)


def test_attention_dropout_is_run_the_plain_way(examples):
    model = make()
    expected = plain_nll(model, examples)
    model.module.llm.config.attention_dropout = 0.5  # in training alone, and nothing is trained here
    assert not _stack.supports(model.module.llm)
    assert torch.allclose(model.loss(model.batch(examples))[0].double(), expected, rtol=1e-5, atol=0)


def test_lower_layers_are_computed_once_a_row(examples, monkeypatch):
    model = make()
    attach(model, "lora, last layer")
    seen: list[tuple[int, int]] = []
    plain = _stack.run_layers

    def counting(llm, first, last, prefix, rows, mask):
        seen.append((first, len(mask)))
        return plain(llm, first, last, prefix, rows, mask)

    monkeypatch.setattr(_stack, "run_layers", counting)
    model.loss(model.batch([*examples[:3], examples[1]]))  # one row twice
    model.loss(model.batch(examples[1:5]))
    model.loss(model.batch(examples[:5]))
    lower = [rows for first, rows in seen if first == 0]
    assert sum(lower) <= 4 + 2 + 1  # 3 + 2 new rows; a batch with another shared beginning may need rows anew
    assert len([1 for first, _ in seen if first > 0]) == 3


def test_bfloat16_gives_the_same_loss_from_kept_states_and_gradients_for_every_update(examples):
    model = make()
    names = attach(model, "lora, last layer")
    expected = plain_nll(model, examples)
    losses = []
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            nll, _counts = model.loss(model.batch(examples))
        assert nll.dtype == torch.float32
        losses.append(nll)
        assert all(grad.abs().max() > 0 for grad in gradients(model, names, nll).values())
    assert torch.equal(*losses)
    assert torch.allclose(losses[0].double(), expected, rtol=0.05, atol=0)
    assert not torch.allclose(losses[0].double(), expected, rtol=1e-6, atol=0)


def test_kept_states_are_dropped_beyond_their_bound_and_the_loss_stays(examples):
    model = make()
    attach(model, "lora, last layer")
    expected = plain_nll(model, examples).detach()
    model.module._kept = _stack.KeptStates(max_bytes=20_000)
    for _ in range(3):
        for start in (0, 2, 4, 6):
            nll = model.loss(model.batch(examples[start : start + 2]))[0].double()
            assert torch.allclose(nll, expected[start : start + 2], rtol=1e-5, atol=0)
    assert model.module._kept._bytes < 60_000
    stored = sum(state.numel() * state.element_size() for state in model.module._kept._states.values())
    assert stored == model.module._kept._bytes


def test_vectors_of_a_row_are_as_many_as_num_tokens_says(examples):
    model = make()
    batch = model.batch(examples)
    _, mask, labels = model.module.embed(batch.rows, with_answers=True)
    rest = [len(row.before) for row in batch.rows]
    assert mask.sum(dim=1).tolist() == [n + model.num_tokens(e) for n, e in zip(rest, examples, strict=True)]
    ends = [example.answer + model.tokenizer.eos_token for example in examples]
    assert [model.tokenizer.decode(row[row != IGNORED]) for row in labels] == ends


def test_a_shared_beginning_is_taken_out_and_no_more(examples):
    model = make()
    same = model.batch([examples[0], examples[1]])
    assert [row.before for row in same.rows] == [[], []]
    other = model.batch(examples)
    assert model.tokenizer.decode(other.prefix).endswith("Say what is ")
    assert {model.tokenizer.decode(row.before[:7]) for row in other.rows} == {"wanted,", "ordered"}


# -- answers -------------------------------------------------------------------------------------------------------


def generated(model: ComposedModel, examples, num_beams: int, max_new_tokens: int) -> list[str]:
    """transformers' own `generate` over whole rows padded on the left."""
    with torch.no_grad():
        embeddings, mask, labels = whole_rows(model, [e.__class__(**{**e.__dict__, "answer": ""}) for e in examples])
        output = model.module.llm.generate(
            inputs_embeds=embeddings[:, :-1],  # without the end mark of the empty answer
            attention_mask=mask[:, :-1].long(),
            do_sample=False,
            num_beams=num_beams,
            max_new_tokens=max_new_tokens,
            eos_token_id=model.tokenizer.eos_token_id,
            pad_token_id=model.tokenizer.eos_token_id,
        )
    assert (labels[:, -1] == model.tokenizer.eos_token_id).all()
    return [model.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in output]


@pytest.fixture(scope="module")
def taught(examples) -> ComposedModel:
    """A model that has learned its eight answers a little: answers of several lengths that end by themselves."""
    model = make()
    names = full.attach(model, (*ALL_LLM, "llm.norms", "llm.embeddings", "connector"), full.Config())
    parameters = dict(model.module.named_parameters())
    optimizer = torch.optim.AdamW([parameters[name] for name in names], lr=1e-2)
    for _ in range(40):
        nll, counts = model.loss(model.batch(examples))
        (nll.sum() / counts.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize("num_beams", [1, 3])
def test_answers_are_those_of_transformers_generate(taught, examples, num_beams):
    answers = taught.generate(examples, 60, num_beams=num_beams)
    assert answers == generated(taught, examples, num_beams, 60)
    assert len({len(answer) for answer in answers}) > 2
    assert taught.generate(examples[:1], 60, num_beams) == answers[:1]
    assert [taught.generate([e], 60, num_beams)[0] for e in examples] == answers


@pytest.mark.parametrize("family", ["qwen3", "gemma"])
def test_answers_of_other_families_are_those_of_transformers_generate(family, examples):
    model = make(family)
    assert model.generate(examples, 10) == generated(model, examples, 1, 10)
    assert len(set(model.generate(examples, 10))) > 1


def test_rows_that_have_ended_are_not_computed_any_further(taught, examples, monkeypatch):
    sizes: list[int] = []
    head = taught.module.llm.lm_head
    handle = head.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    try:
        answers = taught.generate(examples, 100)
    finally:
        handle.remove()
    lengths = [len(taught.tokenizer(answer)["input_ids"]) for answer in answers]
    assert sizes == [sum(length >= step for length in lengths) for step in range(max(lengths) + 1)]
    assert len(sizes) < 100


def test_an_answer_is_cut_at_max_new_tokens(taught, examples):
    whole, cut = taught.generate(examples, 60), taught.generate(examples, 5)
    assert cut == [answer[:5].strip() for answer in whole]


# -- training below the language model -----------------------------------------------------------------------------


def test_training_the_encoder_gives_it_the_gradient_of_the_plain_way(examples):
    spoken = [example for example in examples if example.audio is not None]
    model = make()
    before = model.loss(model.batch(spoken))[0].detach()
    names = full.attach(model, ("audio_encoder",), full.Config())
    nll, _ = model.loss(model.batch(spoken))
    assert torch.allclose(nll, before, rtol=1e-5, atol=0)
    got = gradients(model, names, nll)
    parameters = dict(model.module.named_parameters())
    name = "audio_encoder.encoder.layers.0.fc1.weight"
    step = torch.zeros_like(parameters[name])
    step[3, 5] = step[7, 2] = 1e-2
    with torch.no_grad():
        ends = []
        for sign in (1, -1):
            parameters[name] += sign * step
            ends.append(model.loss(model.batch(spoken))[0].double().sum() / 17)
            parameters[name] -= sign * step
    assert (ends[0] - ends[1]).item() / 2 == pytest.approx((got[name] * step).sum().item(), rel=0.05)
    with torch.no_grad():
        parameters[name] += 30 * step
    for parameter in parameters.values():
        parameter.requires_grad_(False)
    assert not torch.allclose(model.loss(model.batch(spoken))[0], before, rtol=1e-4), "the old hearing was kept"


def test_nothing_is_kept_of_what_an_encoder_that_learns_hears(examples, tmp_path):
    """Else a run whose encoder is frozen would read, under the old weights' name, what trained ones made."""
    spoken = [example for example in examples if example.audio is not None]
    trained = make(cache=PreparedCache(tmp_path / "heard"))
    names = full.attach(trained, ("audio_encoder",), full.Config())
    parameters = dict(trained.module.named_parameters())
    optimizer = torch.optim.AdamW([parameters[name] for name in names], lr=0.05)
    for _ in range(3):
        nll, _ = trained.loss(trained.batch(spoken[:1]))
        nll.sum().backward()
        optimizer.step()
    trained.generate(spoken, 3)
    assert trained.num_tokens(spoken[0]) == make().num_tokens(spoken[0])
    assert len({trained.content(example) for example in spoken}) == len(spoken)
    assert not list((tmp_path / "heard").rglob("*.safetensors"))
    frozen = make(cache=PreparedCache(tmp_path / "heard"))
    assert torch.equal(frozen.loss(frozen.batch(spoken))[0], make().loss(make().batch(spoken))[0])
    assert list((tmp_path / "heard").rglob("*.safetensors"))


def test_groups_that_no_gradient_reaches_are_empty():
    model = make()
    assert model.groups()["connector"] == ("connector",)
    assert model.groups()["audio_encoder"] == ("audio_encoder",)
    model.module.connector.transcripts = lambda prepared: []  # a connector that hands on words
    assert model.groups()["connector"] == model.groups()["audio_encoder"] == ()


def test_frozen_parts_stay_in_evaluation_mode_while_the_others_train(examples):
    model = make()
    model.module.train()
    assert model.module.llm.training
    assert not any(part.training for part in model.module.audio_encoder.modules())
    full.attach(model, ("connector",), full.Config())
    model.module.train()
    assert model.module.connector.training
    assert not model.module.audio_encoder.training


def test_content_names_what_the_language_model_is_given(examples, tmp_path):
    model, twin = make(), make()
    keys = [model.content(example) for example in examples]
    assert len(set(keys)) == len(keys)
    assert [twin.content(example) for example in examples] == keys
    text, spoken = examples[0], examples[1]

    def changed(example: Example, **values) -> str:
        return model.content(Example(**{**example.__dict__, **values}))

    assert changed(text, id="other") == keys[0]
    for values in ({"text": "a mocha"}, {"answer": "[]"}, {"instruction": "Do."}):
        assert changed(text, **values) != keys[0]
    other = Path(tmp_path / "copy.flac")
    other.write_bytes(spoken.audio.read_bytes())
    assert changed(spoken, audio=other) == keys[1]
    twin.identity = {"connector": "mlp", "connector_options": {"stack": 7}}
    twin._rows.clear()
    assert twin.content(spoken) != keys[1]
    assert twin.content(text) == keys[0]


def test_the_tiny_model_is_the_real_classes():
    model = plugins.load("backbones", "smol").make_tiny(0)
    assert isinstance(model.module.llm, LlamaForCausalLM)
    assert isinstance(model.module.audio_encoder.feature_extractor, WhisperFeatureExtractor)


def test_hearing_is_exact_and_the_same_inside_a_bfloat16_block(examples):
    one, other = make(), make()
    with torch.autocast("cpu", torch.bfloat16):
        inside = [one.content(example) for example in examples]
    assert inside == [other.content(example) for example in examples]


def test_the_encoder_trains_in_bfloat16(examples):
    model = make()
    names = full.attach(model, ("audio_encoder",), full.Config())
    with torch.autocast("cpu", torch.bfloat16):
        nll, _ = model.loss(model.batch(examples))
    got = gradients(model, names, nll)
    assert got["audio_encoder.encoder.layers.0.fc1.weight"].abs().max() > 0
