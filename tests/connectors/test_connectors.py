"""One contract for every connector: length, mask and width in and out, and no item looks at its neighbours.

`ctc` reads a head with random weights and a word list of ten, written by the test; Whisper's decoder is one random layer.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import WhisperForConditionalGeneration

from lalm import plugins
from lalm.backbones._tiny import byte_tokenizer
from lalm.connectors._ctc_head import VOCABULARY, CtcHead
from lalm.models.whisper import END_OF_TEXT, whisper_config

NAMES = plugins.names("connectors")
TEXT_WIDTH, AUDIO_WIDTH = 32, 512
LENGTHS = (9, 30, 21, 1)
WORDS = ("a", "an", "at", "he", "in", "is", "it", "on", "so", "to")
SENTENCE = "Turn on 2 lights, it's 45 % dark & cold!"


class Speech:
    """Stands in for Whisper's own tokenizer, whose file comes with the real model."""

    def convert_tokens_to_ids(self, token: str) -> int:
        return {"<|en|>": 50259, "<|fr|>": 50265}[token]

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return " ".join(f"Word{number % 10}" for number in ids if number < END_OF_TEXT)


@pytest.fixture(scope="module")
def whisper() -> WhisperForConditionalGeneration:
    torch.manual_seed(0)
    config = whisper_config()
    config.encoder_layers = config.decoder_layers = 1
    config.encoder_ffn_dim = config.decoder_ffn_dim = 64
    return WhisperForConditionalGeneration(config).eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Options of `ctc`: weights and a word list."""
    folder = tmp_path_factory.mktemp("ctc")
    torch.manual_seed(0)
    head = CtcHead(whisper_config())
    torch.nn.init.normal_(head.out.weight, std=0.3)  # as random as it is, it must have opinions
    save_file(head.state_dict(), folder / "head.safetensors")
    sounds = {word: ["".join(VOCABULARY[3 + i : 5 + i])] for i, word in enumerate(WORDS)}
    words = {"unigrams": dict.fromkeys(WORDS, -2.3), "bigrams": {}, "pronunciations": sounds}
    with gzip.open(folder / "words.json.gz", "wt") as stream:
        json.dump(words, stream)
    return {"weights": str(folder / "head.safetensors"), "lexicon": str(folder / "words.json.gz")}


@pytest.fixture(scope="module")
def make(files, whisper):
    """A bound connector by name and options."""
    tokenizer = byte_tokenizer()
    torch.manual_seed(3)
    table = torch.nn.Embedding(len(tokenizer), TEXT_WIDTH)

    def build(name: str, **options: Any):
        module = plugins.load("connectors", name)
        given = files if "weights" in module.Config.model_fields else {}
        connector = module.build(AUDIO_WIDTH, TEXT_WIDTH, plugins.configure(module, {**given, **options}, name))
        connector.bind(tokenizer, table)
        if hasattr(connector, "bind_speech"):
            connector.bind_speech(whisper, Speech())
        return connector.eval()

    return build


@pytest.fixture(scope="module", params=NAMES)
def connector(request, make):
    return make(request.param)


def frames(connector, seed: int = 0, padding: float = 1e3) -> tuple[torch.Tensor, torch.Tensor]:
    """Random frames [4, 30, width of all taps] and their mask; padding is filled with what must not be looked at."""
    generator = torch.Generator().manual_seed(seed)
    width = AUDIO_WIDTH * len(getattr(connector, "taps", (6,)))
    made = torch.randn(len(LENGTHS), max(LENGTHS), width, generator=generator)
    mask = torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]
    return made.masked_fill(~mask[..., None], padding), mask


@pytest.fixture(scope="module")
def prepared(connector):
    with torch.inference_mode():
        return connector.prepare(*frames(connector))


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray], tolerance: float = 1e-4) -> bool:
    return a.keys() == b.keys() and all(
        a[key].shape == b[key].shape and np.allclose(a[key], b[key], atol=tolerance) for key in a
    )


def test_every_file_of_the_folder_is_held_against_the_contract():
    folder = Path(plugins.__file__).parent / "connectors"
    assert len(NAMES) == len([path for path in folder.glob("*.py") if not path.name.startswith("_")]) >= 4
    assert {"mlp", "ctc", "hybrid", "cascade"} <= set(NAMES)


def test_what_is_prepared_can_be_kept_on_disk(prepared, tmp_path):
    assert len(prepared) == len(LENGTHS)
    for number, item in enumerate(prepared):
        assert item
        assert all(isinstance(array, np.ndarray) and array.dtype != object for array in item.values())
        np.savez(tmp_path / f"{number}.npz", **item)
        with np.load(tmp_path / f"{number}.npz", allow_pickle=False) as back:
            assert same(item, {name: back[name] for name in back.files}, 0)


def test_vectors_have_the_promised_number_mask_and_width(connector, prepared):
    with torch.no_grad():
        vectors, mask = connector(prepared)
    numbers = [connector.num_vectors(item) for item in prepared]
    assert vectors.shape == (len(LENGTHS), max(numbers), TEXT_WIDTH)
    assert mask.dtype == torch.bool
    assert mask.sum(dim=1).tolist() == numbers
    assert all(mask[row, :number].all() for row, number in enumerate(numbers)), "real vectors come first"
    assert vectors[mask].isfinite().all()
    assert max(numbers) > 1


def test_no_item_looks_at_its_neighbours_or_at_padding(connector, prepared):
    made, mask = frames(connector)
    with torch.inference_mode():
        for row, length in enumerate(LENGTHS):
            (alone,) = connector.prepare(made[row : row + 1, :length], mask[row : row + 1, :length])
            assert same(alone, prepared[row])
            vectors, real = connector([alone])
            together, all_real = connector(prepared)
            assert torch.allclose(vectors[0][real[0]], together[row][all_real[row]], atol=1e-4)
        again = connector.prepare(*frames(connector, padding=-7.0))
    assert all(same(a, b) for a, b in zip(again, prepared, strict=True))


def test_other_frames_are_heard_as_something_else(connector, prepared):
    with torch.inference_mode():
        other = connector.prepare(*frames(connector, seed=1))
    assert not all(same(a, b) for a, b in zip(other, prepared, strict=True))


def test_nothing_heard_is_no_vector_and_no_accident(connector, prepared):
    empty = {name: array[:0] for name, array in prepared[0].items()}
    assert connector.num_vectors(empty) == 0
    with torch.no_grad():
        vectors, mask = connector([empty, prepared[1]])
    assert mask.sum(dim=1).tolist() == [0, connector.num_vectors(prepared[1])]
    assert vectors[mask].isfinite().all()


def test_text_is_written_as_it_is_heard_and_the_same_again(connector):
    heard = connector.as_heard(SENTENCE, Random(4))
    assert heard == connector.as_heard(SENTENCE, Random(4))
    if hasattr(connector, "transcripts"):
        assert heard.splitlines()[0] == "turn on two lights it's forty five percent dark and cold"
    else:
        assert heard == SENTENCE
    assert connector.as_heard("", Random(0)).strip() == ""


def test_words_are_said_if_there_are_any(connector, prepared):
    if not hasattr(connector, "transcripts"):
        pytest.skip("hands on no words")
    said = connector.transcripts(prepared)
    assert len(said) == len(LENGTHS)
    assert all(isinstance(text, str) for text in said)
    assert any(text.strip() for text in said)


def test_fingerprints_are_stable_and_tell_connectors_apart(make):
    prints = {name: make(name).fingerprint() for name in NAMES}
    assert prints == {name: make(name).fingerprint() for name in NAMES}
    assert len(set(prints.values())) == len(NAMES)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ctc", {"beam": 5}),
        ("ctc", {"lm_weight": 0.1}),
        ("hybrid", {"word_bonus": 3.0}),
        ("cascade", {"language": "fr"}),
    ],
)
def test_what_changes_what_is_prepared_changes_the_fingerprint(name, options, make):
    assert make(name, **options).fingerprint() != make(name).fingerprint()


def test_other_weights_and_words_change_the_fingerprint(make, files, tmp_path):
    for key, name in (("weights", "head.safetensors"), ("lexicon", "words.json.gz")):
        data = Path(files[key]).read_bytes()
        (tmp_path / name).write_bytes(
            data[:-1] + bytes([data[-1] ^ 1]) if key == "weights" else gzip.compress(gzip.decompress(data) + b" ")
        )
        assert make("ctc", **{key: str(tmp_path / name)}).fingerprint() != make("ctc").fingerprint()


# -- what each of them promises besides --------------------------------------------------------------------------------


def test_mlp_stacks_neighbouring_frames_and_learns(make):
    connector = make("mlp", stack=4)
    made, mask = frames(connector)
    items = connector.prepare(made, mask)
    assert [connector.num_vectors(item) for item in items] == [-(-length // 4) for length in LENGTHS]
    vectors, _ = connector(items)
    padded = torch.nn.functional.pad(made[0, : LENGTHS[0]], (0, 0, 0, 3))
    expected = connector.project(torch.cat([padded[4 * i : 4 * i + 4].flatten()[None] for i in range(3)]))
    assert torch.allclose(vectors[0, :3], expected, atol=1e-5)
    vectors.sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in connector.parameters())
    live = made.clone().requires_grad_()
    connector(connector.hand_on(live, mask))[0][0, :3].sum().backward()
    assert live.grad[0, : LENGTHS[0]].abs().sum() > 0
    assert live.grad[0, LENGTHS[0] :].abs().sum() == 0


def test_mlp_is_drawn_by_its_seed(make):
    first, again, other = (make("mlp", seed=seed).project[0].weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_soft_ctc_averages_what_the_hard_one_takes_first(make):
    hard, soft = make("ctc"), make("ctc", soft=True)
    table = hard._embed[0]
    item = {
        "ids": np.array([[4, 9, 4, 4], [7, 7, 7, 7]]),
        "weights": np.array([[0.75, 0.25, 0, 0], [1, 0, 0, 0]], dtype=np.float32),
    }
    with torch.no_grad():
        assert torch.equal(hard([item])[0][0], table(torch.tensor([4, 7])))
        mean = 0.75 * table.weight[4] + 0.25 * table.weight[9]
        assert torch.allclose(soft([item])[0][0], torch.stack([mean, table.weight[7]]))


def test_the_hybrid_puts_the_transcript_before_what_the_ctc_heard(make):
    hybrid, silenced = make("hybrid"), make("hybrid", zero_audio=True)
    with torch.inference_mode():
        (item, *_rest) = hybrid.prepare(*frames(hybrid))
        vectors, zeroed = hybrid([item])[0][0], silenced([item])[0][0]
    words = len(item["words"])
    table = hybrid._embed[0]
    assert torch.equal(vectors[:words], table(torch.as_tensor(item["words"])))
    assert torch.equal(vectors[words:], table(torch.as_tensor(item["ids"][:, 0])))
    assert torch.equal(zeroed[:words], vectors[:words])
    assert words < len(vectors)
    assert zeroed[words:].abs().sum() == 0
