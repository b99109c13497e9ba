"""Rows of several languages: what the connectors are told, what they write, and under which name it is kept."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from random import Random

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

from lalm import plugins
from lalm.backbones import gemma
from lalm.backbones._composed_model import ComposedModel
from lalm.backbones._encoder import AudioEncoder
from lalm.backbones._tiny_gemma import tiny_gemma
from lalm.connectors import _phones_multilingual, cascade, ctc, hybrid
from lalm.connectors._ctc_head import CtcHead
from lalm.connectors._numbers import spoken_number
from lalm.connectors._plain import plain_words
from lalm.data.cache import PreparedCache
from lalm.errors import ConfigError, ModelError
from lalm.models.whisper import END_OF_TEXT, FIRST_LANGUAGE, NUM_LANGUAGES, whisper_config
from lalm.records import Example

TOKENS = {"<|en|>": 50259, "<|es|>": 50262, "<|fr|>": 50265, "<|it|>": 50274, "<|ja|>": 50266, "<|no|>": 50288}
LISTS = {"en": {"yes": "jEs"}, "fr": {"l'": "l", "eau": "ó", "oui": "wi"}, "es": {"sí": "si"}, "it": {"sì": "si"}}


class Speech:
    """Stands in for Whisper's own tokenizer, whose file comes with the real model."""

    def convert_tokens_to_ids(self, token: str) -> int:
        return TOKENS[token]

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return " ".join("abcdefghij"[number % 10] for number in ids if number < END_OF_TEXT)


@pytest.fixture(scope="module")
def whisper() -> WhisperForConditionalGeneration:
    torch.manual_seed(0)
    config = whisper_config()
    config.encoder_layers, config.decoder_layers = 6, 1
    config.encoder_ffn_dim = config.decoder_ffn_dim = 16
    return WhisperForConditionalGeneration(config).eval()


@pytest.fixture
def weights(tmp_path: Path, monkeypatch) -> Path:
    """A folder as `weights/gemma` is: a random head and word lists of a few words."""
    torch.manual_seed(0)
    head = CtcHead(whisper_config(), vocabulary=_phones_multilingual.VOCABULARY)
    save_file(head.state_dict(), tmp_path / "ctc-multilingual.safetensors")
    for language, words in LISTS.items():
        content = {
            "unigrams": dict.fromkeys(words, -1.0),
            "bigrams": {},
            "pronunciations": {w: [s] for w, s in words.items()},
        }
        with gzip.open(tmp_path / f"lexicon-{language}.json.gz", "wt", encoding="utf-8") as stream:
            json.dump(content, stream)
    monkeypatch.setattr(ctc, "MULTILINGUAL", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("number", "english", "french", "spanish", "italian"),
    [
        ("0", "zero", "zéro", "cero", "zero"),
        ("21", "twenty one", "vingt et un", "veintiuno", "ventuno"),
        ("71", "seventy one", "soixante et onze", "setenta y uno", "settantuno"),
        ("80", "eighty", "quatre-vingts", "ochenta", "ottanta"),
        ("91", "ninety one", "quatre-vingt-onze", "noventa y uno", "novantuno"),
        ("100", "one hundred", "cent", "cien", "cento"),
        (
            "583",
            "five hundred eighty three",
            "cinq cent quatre-vingt-trois",
            "quinientos ochenta y tres",
            "cinquecentoottantatré",
        ),
        ("1900", "one thousand nine hundred", "mille neuf cents", "mil novecientos", "millenovecento"),
        ("2026", "two thousand twenty six", "deux mille vingt-six", "dos mil veintiséis", "duemilaventisei"),
        ("07", "zero seven", "zéro sept", "cero siete", "zero sette"),
    ],
)
def test_numbers_are_spoken_in_four_languages(number, english, french, spanish, italian):
    said = [spoken_number(number, language) for language in ("en", "fr", "es", "it")]
    assert said == [english, french, spanish, italian]


def test_plain_words_are_those_of_their_language():
    assert plain_words("Réveille-moi à 9 h, s’il te plaît & merci: 50 %!", "fr") == (
        "réveille moi à neuf h s'il te plaît et merci cinquante pour cent"
    )
    assert plain_words("¿A las 9?", "es") == "a las nueve"
    assert plain_words("Um 9 Uhr", "de") == "um 9 uhr"  # whose numbers nobody wrote down
    assert plain_words("At 9") == "at nine"


def test_phones_are_one_letter_each_and_languages_share_what_they_share():
    vocabulary = _phones_multilingual.VOCABULARY
    assert len(set(vocabulary)) == len(vocabulary) == 57
    assert all(len(phone) == 1 for phone in vocabulary[1:])
    # as espeak-ng writes them: bonjour, llama, oggi
    assert _phones_multilingual.letters("b_ɔ̃_ʒ_ˈu_ʁ", "fr") == "bõZuʁ"
    assert _phones_multilingual.letters("ʎ_ˈa_m_a", "es") == "ʎämä"
    assert _phones_multilingual.letters("ˈɔ_dʒː_i", "it") == "OJi"
    assert _phones_multilingual.letters("(en)_w_ˈiː_k_(fr)", "fr") == "wik"
    for language in ("fr", "es", "it"):
        for own in _phones_multilingual._OF_LANGUAGE[language].values():
            assert _phones_multilingual.letters(own, language), own


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs the program espeak-ng")
def test_sentences_are_pronounced_whole_and_words_in_all_their_forms():
    (said,) = _phones_multilingual.sentences(["les amis"], "fr")
    assert said == "lézämi"  # with the liaison
    assert _phones_multilingual.pronunciations(["les", "amis"], "fr") == {"les": ["lé", "léz"], "amis": ["ämi"]}
    assert _phones_multilingual.pronunciations(["hacer"], "es") == {"hacer": ["äTéɾ", "äséɾ"]}
    assert _phones_multilingual.sentences([], "it") == []


def test_the_embedded_model_s_connectors_take_the_language_of_each_row():
    for choice, wanted in (
        ({"name": "cascade"}, {"language": "row"}),
        ({"name": "hybrid"}, {"phones": "multilingual", "language": "row"}),
        ({"name": "ctc", "language": "fr"}, {"phones": "multilingual", "language": "fr"}),
        ({"name": "mlp"}, {}),
    ):
        found = plugins.configure(gemma, {"connector": choice}, "backbone").connector
        assert (found.name, found.options) == (choice["name"], wanted)
    assert gemma.Config().connector.options == {"language": "row"}
    with pytest.raises(ConfigError, match="xx"):
        plugins.configure(cascade, {"language": "xx"}, "connector")


def test_smol_s_connectors_are_what_they_were(whisper):
    connector = cascade.build(512, 32, cascade.Config())
    connector.bind_speech(whisper, Speech())
    assert connector.in_language("fr") is connector
    assert (ctc.Config().phones, hybrid.Config().language) == ("english", "en")
    assert cascade.Config().language == "en"


def test_the_decoder_is_told_the_language_of_the_row_or_hears_it(whisper, monkeypatch):
    connector = cascade.build(512, 32, cascade.Config(language="row"))
    connector.bind(tiny_gemma()[1], torch.nn.Embedding(258, 32))
    connector.bind_speech(whisper, Speech())
    told = {name: connector.in_language(name) for name in ("fr", "ja", "nb", "qu")}
    assert connector.in_language("fr")._decoder._language == TOKENS["<|fr|>"]
    assert told["ja"]._decoder._language == TOKENS["<|ja|>"]
    assert told["qu"]._decoder._language is None  # Quechua: Whisper never heard it
    assert connector._decoder._language is None, "the connector itself is as it was"
    names = {name: one.fingerprint() for name, one in told.items()}
    assert len(set(names.values())) == 4
    assert names["fr"] == cascade.build(512, 32, cascade.Config(language="fr")).fingerprint()
    assert told["fr"].as_heard("À 9 heures", Random(0)) == "à neuf heures"

    frames = torch.randn(2, 20, 512)
    mask = torch.ones(2, 20, dtype=torch.bool)
    heard = connector.prepare(frames, mask)
    starts = torch.full((2, 1), 50258)
    logits = whisper(encoder_outputs=(frames,), decoder_input_ids=starts).logits[:, -1]
    likeliest = FIRST_LANGUAGE + logits[:, FIRST_LANGUAGE : FIRST_LANGUAGE + NUM_LANGUAGES].argmax(dim=-1)
    for row, token in enumerate(likeliest.tolist()):
        monkeypatch.setitem(TOKENS, "<|fr|>", token)
        (item,) = connector.in_language("fr").prepare(frames[row : row + 1], mask[row : row + 1])
        assert np.array_equal(item["ids"][:8], heard[row]["ids"][:8])


def test_words_are_searched_along_the_list_of_the_row_s_language(weights):
    connector = ctc.build(512, 32, ctc.Config(phones="multilingual", language="row", lm_weight=0, word_bonus=0))
    french = connector.in_language("fr")
    assert french.head is connector.head
    assert set(french.lexicon.unigrams) == set(LISTS["fr"])
    assert set(connector.in_language("it").lexicon.unigrams) == set(LISTS["it"])
    assert "yes" in connector.in_language("ja").lexicon.unigrams  # English, where there is no list
    assert french.fingerprint() != connector.in_language("it").fingerprint()

    vocabulary = _phones_multilingual.VOCABULARY
    said = torch.full((1, 6, len(vocabulary)), -20.0)
    for frame, phone in enumerate(["l", vocabulary[0], "ó", vocabulary[0], "w", "i"]):
        said[0, frame, vocabulary.index(phone)] = 0.0
    connector.head.forward = lambda frames, mask: said  # what a trained head would say of « l'eau, oui »
    assert french.best_texts(torch.zeros(1, 6, 512), torch.ones(1, 6, dtype=torch.bool))[0][0][0] == "l'eau oui"


def test_what_is_missing_is_named(weights, monkeypatch):
    with pytest.raises(ModelError, match=r"57 symbols.*set of 40"):
        ctc.build(512, 32, ctc.Config(weights=weights / "ctc-multilingual.safetensors"))
    (weights / "lexicon-es.json.gz").unlink()
    connector = ctc.build(512, 32, ctc.Config(phones="multilingual", language="row"))
    with pytest.raises(ModelError, match="word list of Spanish is missing"):
        connector.in_language("es")
    (weights / "ctc-multilingual.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lalm align recipes/align_gemma\.yaml"):
        ctc.build(512, 32, ctc.Config(phones="multilingual"))


def test_languages_that_are_not_heard_are_said():
    several = ctc.Config(phones="multilingual", language="row")
    assert [ctc.unheard(language, several) for language in ("en", "fr", "es", "it")] == [None] * 4
    assert "words of English" in str(ctc.unheard("de", several))
    assert "words of French" in str(ctc.unheard("es", ctc.Config(phones="multilingual", language="fr")))
    assert cascade.unheard("de", cascade.Config(language="row")) is None
    assert "nearest language" in str(cascade.unheard("qu", cascade.Config(language="row")))
    assert "English" in str(ctc.unheard("fr", ctc.Config()))


def test_what_is_heard_of_a_recording_is_kept_by_language(whisper, tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(8000), 16_000)
    llm, tokenizer = tiny_gemma()
    connector = cascade.build(512, 32, cascade.Config(language="row"))
    connector.bind_speech(whisper, Speech())
    encoder = AudioEncoder(whisper.model.encoder, WhisperFeatureExtractor())
    cache = PreparedCache(tmp_path / "cache", 10**8)
    model = ComposedModel(encoder, connector, llm, tokenizer, identity={}, cache=cache)
    for language in ("fr", "es", "fr"):
        model.row(Example(language, "Do it.", "{}", audio=path, language=language))
    assert len(list((tmp_path / "cache").glob("*/*/*.safetensors"))) == 2
    kept = {name: model.prepared([path], name)[0]["ids"].tolist() for name in ("fr", "es")}
    alone = cascade.build(512, 32, cascade.Config(language="fr"))
    alone.bind_speech(whisper, Speech())
    plain = ComposedModel(encoder, alone, llm, tokenizer, identity={})
    assert plain.prepared([path])[0]["ids"].tolist() == kept["fr"]
    text = [Example(one, "Do it.", "{}", text="À 9 heures", language=one) for one in ("fr", "es")]
    assert [model.as_given(one) for one in text] == ["à neuf heures", "à nueve heures"]
