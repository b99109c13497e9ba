"""The real Gemma 3 270M, where it is in LALM_HOME already; it is never fetched by a test, as its terms are a person's to accept."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lalm.models.embedded import problem_of
from lalm.models.fetch import lalm_home

SENTENCES = {  # and the bits a character that the unpacked weights give, measured
    "en": ("The weather in London is often rainy, so people carry an umbrella when they leave the house.", 1.0),
    "fr": ("Le temps à Londres est souvent pluvieux, alors les gens emportent un parapluie.", 1.5),
    "es": ("El tiempo en Londres suele ser lluvioso, por eso la gente lleva un paraguas.", 1.5),
    "it": ("A Londra il tempo è spesso piovoso, perciò la gente porta con sé un ombrello.", 1.9),
}


@pytest.fixture(scope="module")
def folder() -> Path:
    found = lalm_home() / "models" / "gemma"
    if problem_of(found) is not None:
        pytest.skip("Gemma 3 270M is not in LALM_HOME: accept its terms and use the backbone gemma once")
    return found


@pytest.fixture(scope="module")
def tokenizer(folder: Path):
    from lalm.models import parts

    return parts.load_tokenizer(parts.find(str(folder / "language_model")))


def test_the_folder_holds_what_the_terms_ask_for(folder: Path):
    assert "Gemma Terms of Use found at ai.google.dev/gemma/terms" in (folder / "NOTICE.txt").read_text()
    assert "Gemma Terms of Use" in (folder / "GEMMA_TERMS.html").read_text(encoding="utf-8")


def test_the_tokenizer_lays_rows_out_as_plain_text(tokenizer):
    assert len(tokenizer) == 262_144
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id) == (0, 1, 2)
    messages = [{"role": "system", "content": "Do it."}, {"role": "user", "content": "Réveille-moi à 12 heures"}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == "<bos>Do it.\n\nRéveille-moi à 12 heures\nAnswer:\n"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert ids.count(2) == 1
    assert tokenizer.decode(ids) == text


def test_the_language_model_is_whole_tied_and_at_home_in_four_languages(folder: Path, tokenizer):
    import torch
    from transformers import AutoModelForCausalLM

    from lalm.models import parts

    model = parts.load_weights(AutoModelForCausalLM, parts.find(str(folder / "language_model")))
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert sum(parameter.numel() for parameter in model.parameters()) == 268_098_176
    assert (model.config.sliding_window, model.config.layer_types.count("full_attention")) == (512, 3)
    with torch.inference_mode():
        for text, most in SENTENCES.values():
            ids = tokenizer(f"<bos>{text}", add_special_tokens=False, return_tensors="pt").input_ids
            nats = float(model(ids, labels=ids).loss) * (ids.shape[1] - 1)
            assert nats / math.log(2) / len(text) < most, text
        prompt = tokenizer("<bos>Question: What is the capital of France?\nAnswer:", add_special_tokens=False)
        ids = torch.tensor([prompt.input_ids])
        answer = model.generate(ids, max_new_tokens=3, do_sample=False)[0, ids.shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
