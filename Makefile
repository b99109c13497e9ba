# Every target does its own set-up in .venv; nothing but Python 3.11 to 3.13, pip, make and a package index is needed.
# PYTHON=python3.12 chooses an interpreter; pip's own settings (a mirror, a proxy) are honoured.

PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python; do \
  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
RUN := .venv/.installed
DEV := .venv/.installed-dev
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo barista fsdd selectors sqa sqa-full xling bench check clean

help:
	@echo "make demo      a small study on the corpus that comes along, ending with a report in out/demo"
	@echo "make barista   the study on real coffee orders, in out/barista"
	@echo "make fsdd      the study on real spoken digits, in out/fsdd"
	@echo "make selectors the study of which coffee orders to record, in out/selectors"
	@echo "make sqa       the study of spoken questions, one task and several, in out/sqa; sqa-full: more shares, seeds and ablations"
	@echo "make xling     the study of what English speech buys for French, in out/xling (Gemma's terms: LALM_ACCEPT_GEMMA_TERMS=1)"
	@echo "make bench     training and answering beside a plain reference, in bench/"
	@echo "make check     format, lint, types, tests"
	@echo "make clean     remove .venv, caches and builds; what is in out/ stays"

demo: $(RUN)
	$(BIN)/lalm demo --out out/demo

barista: $(RUN)
	$(BIN)/lalm study studies/barista.yaml --out out/barista

fsdd: $(RUN)
	$(BIN)/lalm study studies/fsdd.yaml --out out/fsdd

selectors: $(RUN)
	$(BIN)/lalm study studies/selectors.yaml --out out/selectors

# Texts are spoken once; a target is the last file that this writes.
out/sqa_speech/README.md: recipes/questions/texts.yaml | $(RUN)
	$(BIN)/lalm data synth recipes/questions/texts.yaml --engine flite --engine espeak_ng --out out/sqa_speech
	@touch $@

sqa: out/sqa_speech/README.md
	$(BIN)/lalm study studies/sqa.yaml --out out/sqa

sqa-full: out/sqa_speech/README.md
	$(BIN)/lalm study studies/sqa_full.yaml --out out/sqa_full

out/xling_speech/manifest.jsonl: recipes/transfer/sentences.yaml | $(RUN)
	$(PIP_INSTALL) -e '.[synth]' ttspico
	$(BIN)/lalm data synth recipes/transfer/sentences.yaml --engine kokoro@train --engine flite@train --engine pico@test \
	  --voices kokoro=bf_alice,bf_emma,bf_lily,bm_daniel,bm_george --out out/xling_speech
	@touch $@

xling: out/xling_speech/manifest.jsonl
	$(BIN)/lalm study studies/transfer/english_to_french.yaml --out out/xling

bench: $(RUN)
	$(BIN)/lalm bench --out bench

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# Without the ensurepip module (some Linux distributions) the pip that is there installs one into .venv.
$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "lalm needs Python 3.11, 3.12 or 3.13: none was found. Name one: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv || { $(PYTHON) -m venv --clear --without-pip .venv && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }

$(RUN): $(BIN)/pip pyproject.toml constraints.txt
	@echo "Installing into .venv; the first time takes some minutes."
	$(PIP_INSTALL) -e .
	@touch $@

$(DEV): $(BIN)/pip pyproject.toml constraints.txt
	@echo "Installing into .venv; the first time takes some minutes."
	$(PIP_INSTALL) -e '.[dev]'
	@touch $(RUN) $@

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
