"""Answers held to a grammar, on every backbone in small: always read as they stand, always of the ontology."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lalm import plugins
from lalm.backbones import _decoding
from lalm.backbones._grammar import Guide, check_tokenizer
from lalm.backbones._tiny import byte_tokenizer
from lalm.data.grammar import MORE_SLOTS, Grammar, answer_grammar, max_characters, seen_in
from lalm.data.labels import answer_text
from lalm.errors import ConfigError
from lalm.evaluate.parse import parse_answer
from lalm.records import Example, Frame, Slot

INSTRUCTION = "Say what is wanted, as JSON."
ROWS = (
    Frame("light_on", (Slot("room", "hall"),)),
    Frame('say "so"\n', (Slot("näme", "a\tb"),)),
    Frame(None),
)


def world() -> tuple[Any, Any, Grammar]:
    """An ontology with a closed and an open type, what rows held, and the grammar."""
    seen = seen_in(ROWS)
    ontology = seen.labels
    ontology.slots["room"].closed = True
    ontology.slots["room"].synonyms = {"höll": "hall"}
    return ontology, seen, answer_grammar(ontology, seen)


ONTOLOGY, SEEN, GRAMMAR = world()


def assert_allowed(raw: str) -> None:
    frame, status = parse_answer(raw)
    assert status == "ok"
    assert frame is not None
    assert raw == answer_text(frame)
    assert frame.intent is None or frame.intent in ONTOLOGY.intents
    assert len(frame.slots) <= SEEN.most_slots + MORE_SLOTS
    for slot in frame.slots:
        one = ONTOLOGY.slots[slot.type]
        assert one.allows(slot.value)
        assert one.closed or len(slot.value) <= max_characters(one, None)


def examples(tmp: Path) -> list[Example]:
    time_s = np.arange(16_000) / 16_000
    soundfile.write(tmp / "hum.wav", 0.1 * np.sin(2 * np.pi * 200 * time_s), 16_000)
    words = ("off", "please turn it on", "turn on the light in the hall")
    answers = [answer_text(frame) for frame in ROWS]
    rows = [Example(text, INSTRUCTION, answer, text=text) for text, answer in zip(words, answers, strict=True)]
    return [Example("hum", INSTRUCTION, answers[0], audio=tmp / "hum.wav"), *rows]


@pytest.fixture(scope="module", params=plugins.names("backbones"))
def model(request):
    return plugins.load("backbones", request.param).make_tiny(0)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    return examples(tmp_path_factory.mktemp("hum"))


def test_answers_are_of_the_ontology_whatever_stands_beside_them(model, rows):
    free = model.generate(rows, 12)
    assert all(parse_answer(raw)[1] == "failed" for raw in free), "random weights say nothing that can be read"
    together = model.generate(rows, 1, grammar=GRAMMAR)
    for raw in together:
        assert_allowed(raw)
    assert together[1:3] == [model.generate([row], 1, grammar=GRAMMAR)[0] for row in rows[1:3]]
    assert len(set(together)) > 1
    assert model.generate(rows, 12) == free


def test_beams_obey_too(model, rows):
    for raw in model.generate(rows[:2], 1, 2, GRAMMAR):
        assert_allowed(raw)


def test_what_is_taught_may_be_said(model, rows):
    end = model.tokenizer.eos_token_id
    for row in rows:
        tokens = model.tokenizer(row.answer, add_special_tokens=False)["input_ids"]
        for ends in ([end], [end, 0]):
            obeying = Guide(model.tokenizer, ends).obeying(GRAMMAR)
            for number, token in enumerate([*tokens, end]):
                left = obeying.allowed([tuple(tokens[:number])], torch.zeros(1, len(model.tokenizer) + 3))[0]
                assert left[token] == 0
                assert torch.isneginf(left[len(model.tokenizer) :]).all(), "embeddings may be wider than the vocabulary"
            assert sorted(torch.isfinite(left).nonzero()[:, 0].tolist()) == sorted(ends)


@pytest.mark.parametrize("name", ["smol", "qwen2_audio"])
def test_beams_find_the_likeliest_of_all_answers(name, rows):
    """Of a grammar with few answers, by the loss of each: mean log-likelihood a token, as beam search counts."""
    model = plugins.load("backbones", name).make_tiny(1)
    seen = seen_in([Frame("ab"), Frame("ba"), Frame("abc"), Frame(None)])
    grammar = answer_grammar(seen.labels, seen)
    said = [answer_text(Frame(intent)) for intent in ("ab", "ba", "abc", None)]
    for row in rows[:2]:
        taught = [Example(row.id, row.instruction, text, text=row.text, audio=row.audio) for text in said]
        with torch.no_grad():
            nll, count = model.loss(model.batch(taught))
        assert model.generate([row], 1, 4, grammar) == [said[int((nll / count).argmin())]]


def test_an_answer_ends_where_the_positions_do(rows):
    model = plugins.load("backbones", "smol").make_tiny(0)
    model.module.llm.config.max_position_embeddings = 10_000
    row = rows[1]
    whole = model.generate([row], 1, grammar=GRAMMAR)[0]
    answer = len(model.row(row).answer)
    model.module.llm.config.max_position_embeddings = len(model.row(row).before) + model.num_tokens(row)
    cut = model.generate([row], 1, grammar=GRAMMAR)[0]
    assert whole.startswith(cut.rstrip("\N{REPLACEMENT CHARACTER}"))
    assert answer - 4 < len(cut.encode()) <= answer + 2 < len(whole.encode()), "a token is a byte here"


def test_room_for_an_answer_grows(monkeypatch, rows):
    model = plugins.load("backbones", "smol").make_tiny(0)
    before = model.generate(rows, 40)
    monkeypatch.setattr(_decoding, "_ROOM", 3)
    assert model.generate(rows, 40) == before


def sentencepiece() -> PreTrainedTokenizerFast:
    """A tokenizer like Llama 2's: a space before the text, byte fallback."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127))]
    pieces += ['{"', '▁{"', "or", "order"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    merges = [("{", '"'), ("▁", '{"'), ("o", "r")]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


def test_the_space_that_sentencepiece_begins_with_is_said_as_it_is_taught():
    tokenizer = sentencepiece()
    text = answer_text(Frame("light_on", (Slot("näme", "é ☕"),)))
    tokens = tokenizer(text)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(tokens)[0] == '▁{"'
    obeying = Guide(tokenizer, [2]).obeying(GRAMMAR)
    for number, token in enumerate([*tokens, 2]):
        assert obeying.allowed([tuple(tokens[:number])], torch.zeros(1, len(tokenizer)))[0, token] == 0
    assert tokenizer.decode(tokens) == text


def test_what_beam_search_makes_up_can_only_end():
    tokenizer = byte_tokenizer()
    obeying = Guide(tokenizer, [1]).obeying(GRAMMAR)
    logits = torch.zeros(2, len(tokenizer), dtype=torch.bfloat16)
    begin = tokenizer("{")["input_ids"][0]
    obeying.allowed([(), ()], logits)
    obeying.allowed([(begin,), (5,)], logits)
    left = obeying.allowed([(begin, 5), (5, 1)], logits)
    assert torch.isfinite(left).nonzero().tolist() == [[0, 1], [1, 1]]
    assert left.dtype == torch.bfloat16


def test_tokenizers_that_cannot_be_read_are_named():
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "[E]": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="[E]", unk_token="[UNK]")
    with pytest.raises(ConfigError, match="vocabulary of this model's tokenizer cannot be read"):
        Guide(fast, [2]).obeying(GRAMMAR).allowed([()], torch.zeros(1, 3))
    with pytest.raises(ConfigError, match=r"evaluate\.constrained.*\(dict\) is not a fast one"):
        check_tokenizer({})


def test_words_that_the_tokenizer_changes_are_named():
    """Without a letter, with a normalizer, and a mark of the model's own."""
    alphabet = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - {"g"})
    vocabulary = {token: number for number, token in enumerate(["<|im_start|>", "<|im_end|>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>")
    words = ("light", "cafe\u0301", "<|im_end|>")
    for word in words:
        seen = seen_in([Frame("on"), Frame(word)])
        with pytest.raises(ConfigError, match="(?s)cannot write 1 word of the grammar.*" + re.escape(f'"{word}"')):
            Guide(fast, [1]).obeying(answer_grammar(seen.labels, seen)).allowed([()], torch.zeros(1, len(fast)))


def test_smol_obeys_before_it_is_taught(smol_folder, rows):
    model = plugins.load("backbones", "smol").load(plugins.load("backbones", "smol").Config())
    seen = seen_in([ROWS[0]])
    seen.labels.slots["room"].closed = True  # without an open type: it says a lot
    for raw in model.generate(rows[1:3], 1, grammar=answer_grammar(seen.labels, seen)):
        assert_allowed(raw)
