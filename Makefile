# Two virtual environments, because NeMo's requirements and tritonserver's do not install together:
# .venv/export writes model repositories, .venv/serve has the server and the client. A third, .venv/peers, has the
# packages that benchmarks and their tests measure beside them.

PYTHON ?= python3
TORCH ?= torch==2.13.0
EXPORT := .venv/export/bin
SERVE := .venv/serve/bin
PEERS := .venv/peers/bin
EXPORT_READY := .venv/export/.installed
SERVE_READY := .venv/serve/.installed
PEERS_READY := .venv/peers/.installed
CHECKPOINTS := demo/coffee_ctc.nemo demo/coffee_rnnt.nemo
TEST_REPOSITORY := build/test_repository
FAMILY_REPOSITORY := build/family_repository
RECORDINGS := $(wildcard demo/commands/manifest.jsonl ../shared/speech/*/*.jsonl)
SERVER ?= server
EXPORT_CODE := $(shell find export_scripts -name '*.py')
SERVE_CHECKED := client server demo tests/attack tests/client tests/server tests/served tests/conftest.py
EXPORT_CHECKED := export_scripts training benchmark tests/benchmark tests/export_scripts tests/training tests/full_size

export PIP_DISABLE_PIP_VERSION_CHECK := 1

FULL_SIZE := stt_en_citrinet_256 stt_en_conformer_ctc_small stt_en_conformer_transducer_small \
	stt_en_quartznet15x5 stt_en_contextnet_512
MANIFEST ?= $(firstword $(wildcard ../shared/speech/read/manifest.jsonl) demo/commands/manifest.jsonl)

BATCHING := build/batching
BATCHING_MODEL := stt_en_citrinet_256
BATCHING_NOTE := The architecture at full size with **random weights**: its texts are gibberish that follows the \
audio, and no figure here is one of a published model.
SPEECH_SETS := $(or $(foreach set,read/manifest.jsonl coffee/test.jsonl,\
	$(patsubst %,$(patsubst %/,%,$(dir $(set)))=%,$(wildcard ../shared/speech/$(set)))),\
	commands=demo/commands/manifest.jsonl)

VERIFY = $(SERVE)/python tests/full_size/verify.py --manifest $(MANIFEST) \
	--export-python $(EXPORT)/python --serve-python $(SERVE)/python

.PHONY: help install peers demo test lint format attack benchmark-batching verify-full verify-all clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

install: $(EXPORT_READY) $(SERVE_READY) ## both virtual environments

$(EXPORT_READY): pyproject.toml constraints/export.txt
	$(PYTHON) -m venv .venv/export
	$(EXPORT)/pip install -q $(TORCH)
	$(EXPORT)/pip install -q -c constraints/export.txt -e '.[export,dev]'
	touch $@

$(SERVE_READY): pyproject.toml constraints/serve.txt
	$(PYTHON) -m venv .venv/serve
	$(SERVE)/pip install -q -c constraints/serve.txt -e '.[$(SERVER),client,benchmark,dev]'
	$(SERVE)/python -m server.python_library
	$(SERVE)/python -m server.launch --assemble-only
	touch $@

peers: $(PEERS_READY) ## the packages that benchmarks measure beside ours

$(PEERS_READY): pyproject.toml constraints/peers.txt
	$(PYTHON) -m venv .venv/peers
	$(PEERS)/pip install -q -c constraints/peers.txt -e '.[peers]'
	touch $@

demo: install ## export a checkpoint, serve it, transcribe and measure
	$(EXPORT)/python export_scripts/export.py demo/coffee_ctc.nemo --repository model_repository
	$(SERVE)/python demo/run.py

test: lint $(TEST_REPOSITORY)/.exported $(FAMILY_REPOSITORY)/.exported build/nemo_transcripts.jsonl build/onnxruntime_1_19/.installed $(PEERS_READY) ## all tests
	$(EXPORT)/python -m pytest tests/export_scripts tests/training
	$(SERVE)/python -m pytest tests/server tests/client tests/served tests/attack tests/benchmark tests/full_size

$(TEST_REPOSITORY)/.exported: $(CHECKPOINTS) $(EXPORT_CODE) | install
	rm -rf $(@D)
	$(EXPORT)/python export_scripts/export.py $(CHECKPOINTS) --repository $(@D)
	touch $@

$(FAMILY_REPOSITORY)/.exported: $(wildcard tests/export_scripts/*tiny_models.py) $(EXPORT_CODE) | install
	rm -rf $(@D) build/tiny_models
	$(EXPORT)/python tests/export_scripts/save_tiny_models.py build/tiny_models
	$(EXPORT)/python export_scripts/export.py build/tiny_models/*.nemo --repository $(@D)
	touch $@

build/nemo_transcripts.jsonl: $(CHECKPOINTS) $(RECORDINGS) tests/served/nemo_transcripts.py | install
	$(EXPORT)/python tests/served/nemo_transcripts.py $(CHECKPOINTS) --out $@

build/onnxruntime_1_19/.installed: | install
	$(SERVE)/pip install -q --no-deps --upgrade --target $(@D) onnxruntime==1.19.2
	touch $@

verify-full: install ## five full-size models with random weights, served beside NeMo (MANIFEST=speech.jsonl)
	$(VERIFY) $(FULL_SIZE) --folder build/verify_full --out build/verify_full/parity.md

verify-all: install ## all 22, 16 recordings each, into docs/full_size.md; about an hour
	$(VERIFY) --all --clean --recordings 16 --at-once 8 --folder build/full_size --out docs/full_size.md

attack: install $(TEST_REPOSITORY)/.exported ## 10,000 good and bad requests at once, into docs/attack.md; some minutes
	$(SERVE)/python tests/attack/attack.py $(basename $(notdir $(CHECKPOINTS))) --repository $(TEST_REPOSITORY) \
		--out docs/attack.md

benchmark-batching: install $(BATCHING)/.exported ## ways to batch mixed lengths, into docs/batching.md; a quarter of an hour
	$(SERVE)/python -m benchmark.batching.run $(BATCHING)/$(BATCHING_MODEL).nemo --repository $(BATCHING)/repository \
		$(SPEECH_SETS:%=--speech %) --note "$(BATCHING_NOTE)" --out docs/batching.md

# As if the installed NeMo had written it, which reads every checkpoint with its own front end.
$(BATCHING)/.exported: $(wildcard tests/full_size/*.py) $(EXPORT_CODE) | install
	rm -rf $(@D)
	$(EXPORT)/python tests/full_size/make_checkpoint.py $(BATCHING_MODEL) --nemo-version 2.7.3 \
		--out $(BATCHING)/$(BATCHING_MODEL).nemo
	$(EXPORT)/python export_scripts/export.py $(BATCHING)/$(BATCHING_MODEL).nemo --repository $(BATCHING)/repository
	touch $@

lint: install ## ruff and mypy
	$(SERVE)/ruff check .
	$(SERVE)/ruff format --check .
	$(EXPORT)/mypy --strict $(EXPORT_CHECKED)
	$(SERVE)/mypy --strict $(SERVE_CHECKED)

format: install ## let ruff rewrite what it can
	$(SERVE)/ruff check --fix .
	$(SERVE)/ruff format .

clean: ## remove what was built, but not the virtual environments
	rm -rf build .mypy_cache .ruff_cache .pytest_cache
