# Two virtual environments, because NeMo's requirements conflict with tritonserver's:
# .venv/export writes model repositories, .venv/serve has the server and the client.
# A third, .venv/baselines, has the recognizers that benchmarks compare with; .venv/nemo3 has the next NeMo release.

PYTHON ?= python3
TORCH ?= torch==2.13.0
EXPORT := .venv/export/bin
SERVE := .venv/serve/bin
BASELINES := .venv/baselines/bin
NEMO3 := .venv/nemo3/bin
EXPORT_READY := .venv/export/.installed
SERVER ?= server
SERVE_READY := .venv/serve/.installed-$(SERVER)
BASELINES_READY := .venv/baselines/.installed
NEMO3_READY := .venv/nemo3/.installed
CHECKPOINTS := demo/coffee_ctc.nemo demo/coffee_rnnt.nemo
HYBRID := demo/coffee_hybrid.nemo
# The most accurate first.
DEMO_CHECKPOINTS := demo/coffee_rnnt.nemo $(HYBRID) demo/coffee_ctc.nemo
TEST_REPOSITORY := build/test_repository
FAMILY_REPOSITORY := build/family_repository
PRECISION_REPOSITORY := build/precision_repository
HYBRID_REPOSITORY := build/hybrid_repository
RECORDINGS := $(wildcard nemo_triton/demo_speech/manifest.jsonl ../shared/speech/*/*.jsonl)
EXPORT_CODE := $(shell find export_scripts -name '*.py') $(wildcard nemo_triton/audio.py nemo_triton/audio_decoders/*.py nemo_triton/contract.py nemo_triton/manifest/*.py nemo_triton/utterances.py)
SERVE_CHECKED := nemo_triton client server demo verification/*.py verification/attack verification/faults verification/fuzz verification/pod tests/attack tests/client tests/docker tests/docs tests/faults tests/packaging tests/server tests/served tests/*.py
SERVE_TESTS := tests/server tests/client tests/served tests/attack tests/faults tests/benchmark tests/full_size tests/docker \
	tests/packaging tests/docs tests/test_layers.py tests/test_words.py
EXPORT_CHECKED := export_scripts training benchmark verification/full_size tests/benchmark tests/export_scripts tests/training tests/full_size

export PIP_DISABLE_PIP_VERSION_CHECK := 1

FULL_SIZE := stt_en_citrinet_256 stt_en_conformer_ctc_small stt_en_conformer_transducer_small \
	stt_en_quartznet15x5 stt_en_contextnet_512
MANIFEST ?= $(firstword $(wildcard ../shared/speech/read/manifest.jsonl) nemo_triton/demo_speech/manifest.jsonl)

BATCHING := build/batching
BATCHING_MODEL := stt_en_citrinet_256
BATCHING_NOTE := The architecture at full size with **random weights**: its texts are gibberish, and no figure here is \
one of a published model.
SPEECH_SETS := $(or $(foreach set,read/manifest.jsonl coffee/test.jsonl,\
	$(patsubst %,$(patsubst %/,%,$(dir $(set)))=%,$(wildcard ../shared/speech/$(set)))),\
	commands=nemo_triton/demo_speech/manifest.jsonl)

GPU := build/gpu
# On a CPU the large models take hours and show nothing new.
GPU_MODELS ?= $(if $(shell command -v nvidia-smi),stt_en_conformer_ctc_small stt_en_conformer_ctc_large \
	stt_en_citrinet_1024 stt_en_contextnet_1024 stt_en_conformer_transducer_small,stt_en_conformer_ctc_small)

GPU_PACK := build/gpu_pack
GPU_PACKED ?= stt_en_conformer_ctc_small stt_en_conformer_ctc_large stt_en_citrinet_1024 \
	stt_en_conformer_transducer_small parakeet-ctc-0.6b

VERIFY = $(SERVE)/python -m verification.full_size.verify --manifest $(MANIFEST) \
	--export-python $(EXPORT)/python --serve-python $(SERVE)/python


MODELS_TABLE := build/models_table

REPORT := build/report
REPORT_RESULTS := $(REPORT)/results
SPEECH := ../shared/speech
REPORT_TITLE := Two trained models and two full-size architectures served on a CPU
# Coffee orders for the models trained on them, read speech of all lengths for the others, words for docs/speechloop.md.
ORDERS := $(firstword $(wildcard $(SPEECH)/coffee/test.jsonl) nemo_triton/demo_speech/manifest.jsonl)
WORDS := $(wildcard $(SPEECH)/words/simple_test.csv)
# Full-size architectures with random weights: one under load, both compared with other packages.
REPORT_LOADED := stt_en_conformer_ctc_small
REPORT_FULL_SIZE := stt_en_citrinet_256 $(REPORT_LOADED)
COMPARED := $(basename $(notdir $(CHECKPOINTS))) $(REPORT_FULL_SIZE)
RUN = $(SERVE)/python -m benchmark.run --repository $(REPORT)/repository --out $(REPORT_RESULTS)
# An encoder with one thread on each core: the highest throughput of a busy CPU (docs/batching.md).
BUSY_CPU = --encoders $$(nproc) --encoder-threads 1
COMPARE_IN := $(REPORT)
COMPARE = $(SERVE)/python -m benchmark.compare --repository $(COMPARE_IN)/repository --out $(COMPARE_IN)/results \
	--export-python $(EXPORT)/python --baselines-python $(BASELINES)/python
RNNT_BASELINES := --checkpoint demo/coffee_rnnt.nemo --baseline-models $(REPORT)/baseline_models/coffee_rnnt
# Those with their own models: pocketsphinx takes minutes per pass, faster-whisper needs a download.
SAME_WEIGHTS := --without pocketsphinx --without faster_whisper
LATER := build/report_later
REPORTED_LATER := parakeet-tdt_ctc-110m parakeet-tdt-0.6b-v2
# Its systems don't fit 24 GB together.
RELOADED := parakeet-tdt-0.6b-v2
LATER_TITLE := Two full-size Parakeets on a CPU, with one single-threaded encoder per core
PRECISION := build/precision
PRECISION_MODELS := stt_en_citrinet_256 stt_en_conformer_ctc_small
PERF_ANALYZER := build/perf_analyzer
DEPLOYMENT := build/deployment
PYTRITON_LIBS = $(abspath $(wildcard .venv/serve/lib/python3*/site-packages/nvidia_pytriton.libs))

# Concurrent measurements would disturb each other.
.NOTPARALLEL:
.PHONY: models-table models-memory pod-memory report report-served report-compared report-later perf-analyzer sclite docker-tools image-proof help install baselines demo check test test-nemo3 lint format attack server-enders stage-kills sick-server soak fuzz bench-memory benchmark-batching benchmark-gpu benchmark-malloc benchmark-overload benchmark-precision gpu-pack verify-full verify-all verify-later clean

help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 21

install: $(EXPORT_READY) $(SERVE_READY) ## create the environments for export and for serving

$(EXPORT_READY): pyproject.toml constraints/export.txt
	$(PYTHON) -m venv .venv/export
	$(EXPORT)/pip install -q $(TORCH)
	$(EXPORT)/pip install -q -c constraints/export.txt -e '.[export,dev]'
	touch $@

$(SERVE_READY): pyproject.toml constraints/serve.txt
	$(PYTHON) -m venv .venv/serve
	rm -f .venv/serve/.installed*
	$(SERVE)/pip uninstall -q -y onnxruntime onnxruntime-gpu 2> /dev/null
	$(SERVE)/pip install -q -c constraints/serve.txt -e '.[$(SERVER),client,benchmark,dev]'
	$(SERVE)/python -m server.install
	touch $@

baselines: $(BASELINES_READY) ## create the environment of the recognizers that benchmarks compare with

$(BASELINES_READY): pyproject.toml constraints/baselines.txt
	$(PYTHON) -m venv .venv/baselines
	$(BASELINES)/pip install -q -c constraints/baselines.txt -e '.[baselines]'
	touch $@

$(NEMO3_READY): pyproject.toml constraints/export_nemo3.txt
	$(PYTHON) -m venv .venv/nemo3
	$(NEMO3)/pip install -q $(TORCH)
	$(NEMO3)/pip install -q -c constraints/export_nemo3.txt -e '.[export,dev]'
	touch $@

demo: install ## export three small checkpoints, serve them, transcribe and measure
	$(EXPORT)/python export_scripts/export.py $(DEMO_CHECKPOINTS) --repository model_repository
	$(SERVE)/python demo/run.py

check: lint ## lint, types and the tests without server and NeMo; 2 minutes
	$(SERVE)/python -m pytest -m fast -n auto tests

test: lint $(TEST_REPOSITORY)/.exported $(FAMILY_REPOSITORY)/.exported $(PRECISION_REPOSITORY)/.exported $(HYBRID_REPOSITORY)/.exported build/nemo_transcripts.jsonl build/onnxruntime_1_19/.installed $(BASELINES_READY) $(PERF_ANALYZER)/.installed $(DEPLOYMENT)/.installed sclite ## all tests, with tritonserver and NeMo; 50 minutes
	$(EXPORT)/python -m pytest tests/export_scripts tests/training
	$(SERVE)/python -m pytest -m fast -n auto tests
	$(SERVE)/python -m pytest -m 'not fast' $(SERVE_TESTS)

test-nemo3: $(NEMO3_READY) ## compare exports with NeMo 3.0's texts; 15 minutes
	rm -rf build/nemo3
	$(NEMO3)/python export_scripts/export.py $(DEMO_CHECKPOINTS) --repository build/nemo3
	$(NEMO3)/python -m pytest -m 'not fast' tests/export_scripts

$(TEST_REPOSITORY)/.exported: $(CHECKPOINTS) $(EXPORT_CODE) | install
	rm -rf $(@D)
	$(EXPORT)/python export_scripts/export.py $(CHECKPOINTS) --repository $(@D)
	touch $@

$(FAMILY_REPOSITORY)/.exported: $(wildcard tests/export_scripts/*tiny_models.py) tests/architectures.py $(EXPORT_CODE) | install
	rm -rf $(@D) build/tiny_models
	$(EXPORT)/python tests/export_scripts/save_tiny_models.py build/tiny_models
	$(EXPORT)/python export_scripts/export.py build/tiny_models/*.nemo --repository $(@D)
	$(EXPORT)/python export_scripts/export.py build/tiny_models/tiny_conformer.nemo --repository $(@D) \
		--target gpu --name-suffix _gpu
	touch $@

$(PRECISION_REPOSITORY)/.exported: $(CHECKPOINTS) $(EXPORT_CODE) | install
	rm -rf $(@D)
	for precision in fp16 int8; do $(EXPORT)/python export_scripts/export.py $(CHECKPOINTS) --repository $(@D) \
		--precision $$precision --name-suffix _$$precision || exit; done
	touch $@

$(HYBRID_REPOSITORY)/.exported: $(HYBRID) $(EXPORT_CODE) | install
	rm -rf $(@D)
	$(EXPORT)/python export_scripts/export.py $(HYBRID) --repository $(@D)
	touch $@

build/nemo_transcripts.jsonl: $(DEMO_CHECKPOINTS) $(RECORDINGS) tests/served/nemo_transcripts.py tests/audio_formats.py verification/encoding.py | install
	$(EXPORT)/python tests/served/nemo_transcripts.py $(DEMO_CHECKPOINTS) --out $@

build/onnxruntime_1_19/.installed: | install
	$(SERVE)/pip install -q --no-deps --upgrade --target $(@D) onnxruntime==1.19.2
	touch $@

verify-full: install ## compare served texts of five full-size models with NeMo's, random weights (MANIFEST=speech.jsonl)
	$(VERIFY) $(FULL_SIZE) --folder build/verify_full --out build/verify_full/parity.md

verify-all: install ## the same for all 22, into docs/full_size.md; 1 hour
	$(VERIFY) --all --clean --recordings 16 --concurrency 8 --folder build/full_size --out docs/full_size.md

verify-later: install ## the same for FastConformers, Parakeets and other later models, into docs/full_size_later.md; hours
	$(VERIFY) --later --clean --recordings 16 --concurrency 8 --folder build/full_size --out docs/full_size_later.md

models-table: install ## measure all 22 models, into docs/models.md and README; two hours, resumable
	code=0; $(SERVE)/python -m benchmark.studies.models_table.run --folder $(MODELS_TABLE) --speech $(MANIFEST) \
		--export-python $(EXPORT)/python || code=$$?; \
		$(SERVE)/python -m benchmark.studies.models_table.write --folder $(MODELS_TABLE) && exit $$code

models-memory: install ## measure the memory of long audio of all 22, into docs/models.md; hours, resumable
	code=0; $(SERVE)/python -m benchmark.studies.models_table.run --folder $(MODELS_TABLE) --export-python $(EXPORT)/python \
		--export-only || code=$$?; \
		$(SERVE)/python -m benchmark.studies.models_table.long_audio --folder $(MODELS_TABLE) --speech $(MANIFEST) \
		|| code=$$?; $(SERVE)/python -m benchmark.studies.models_table.write --folder $(MODELS_TABLE) --memory-only \
		&& exit $$code

POD_MODELS ?= stt_en_conformer_ctc_large stt_en_conformer_transducer_large stt_en_jasper10x5dr

pod-memory: install ## show that a pod of 8 GiB survives 16 of the longest requests; needs root and the models of models-memory
	for model in $(POD_MODELS); do $(SERVE)/python -m verification.pod.longest_audio $$model \
		--repository $(MODELS_TABLE)/repository || exit; done

attack: install $(TEST_REPOSITORY)/.exported ## send 20,000 valid and invalid requests, into docs/attack.md; some minutes
	$(SERVE)/python -m verification.attack.attack $(basename $(notdir $(CHECKPOINTS))) --repository $(TEST_REPOSITORY) \
		--out docs/attack.md

server-enders: install $(TEST_REPOSITORY)/.exported ## try requests that end Triton, into docs/security_server.md; 5 minutes
	$(SERVE)/python -m verification.attack.server_enders $(basename $(notdir $(firstword $(CHECKPOINTS)))) \
		--repository $(TEST_REPOSITORY) --page docs/security_server.md

stage-kills: install $(TEST_REPOSITORY)/.exported ## kill each stage's process 10 times under load, into docs/faults.md; 20 minutes, resumable
	$(SERVE)/python -m verification.faults.kill_stages $(basename $(notdir $(CHECKPOINTS))) --repository $(TEST_REPOSITORY) \
		--folder build/stage_kills --out docs/faults.md

sick-server: install $(TEST_REPOSITORY)/.exported ## send requests to a sick server and a healthy one, into docs/sick_server.md; 3 minutes
	$(SERVE)/python -m verification.faults.sick_server $(basename $(notdir $(firstword $(CHECKPOINTS)))) \
		--repository $(TEST_REPOSITORY) --out docs/sick_server.md

soak: MINUTES ?= 20
soak: install $(TEST_REPOSITORY)/.exported ## load three servers while faults happen, into docs/soak.md (MINUTES=20)
	$(SERVE)/python -m verification.faults.soak $(basename $(notdir $(CHECKPOINTS))) --repository $(TEST_REPOSITORY) \
		--folder build/soak --minutes $(MINUTES) --out docs/soak.md

SEED ?= 0
FUZZ_REQUESTS = $(SERVE)/python -m verification.fuzz.fuzz_requests $(basename $(notdir $(CHECKPOINTS))) \
	--repository $(TEST_REPOSITORY) --minutes $(MINUTES) --seed $(SEED) --page docs/fuzz.md

fuzz: MINUTES ?= 5
fuzz: install $(TEST_REPOSITORY)/.exported ## send mutated requests and read mutated files, into docs/fuzz.md; 18 minutes (MINUTES=5 each)
	code=0; $(FUZZ_REQUESTS) || code=$$?; $(FUZZ_REQUESTS) --open-http || code=$$?; \
		$(SERVE)/python -m verification.fuzz.fuzz_readers --minutes $(MINUTES) --seed $(SEED) --page docs/fuzz.md \
		|| code=$$?; $(SERVE)/python -m verification.fuzz.fuzz_transcribe $(basename $(notdir $(firstword $(CHECKPOINTS)))) \
		--repository $(TEST_REPOSITORY) --seed $(SEED) --page docs/fuzz.md || code=$$?; exit $$code

benchmark-batching: install $(BATCHING)/.exported ## compare ways to batch mixed lengths, into docs/batching.md; 15 minutes
	$(SERVE)/python -m benchmark.studies.batching.run $(BATCHING)/$(BATCHING_MODEL).nemo --repository $(BATCHING)/repository \
		$(SPEECH_SETS:%=--speech %) --note "$(BATCHING_NOTE)" --out docs/batching.md

# Start empty when the export changes: models of an older export would be reused.
$(PRECISION)/.begun: $(EXPORT_CODE)
	rm -rf $(@D)
	mkdir -p $(@D)
	touch $@

bench-memory: install $(TEST_REPOSITORY)/.exported ## show that bench.py's memory does not grow with the audio; 2 minutes
	$(SERVE)/python -m verification.bench_memory $(basename $(notdir $(firstword $(CHECKPOINTS)))) --repository $(TEST_REPOSITORY)

benchmark-malloc: install $(TEST_REPOSITORY)/.exported ## compare settings of malloc: CPU time and memory of a server; 7 minutes
	$(SERVE)/python -m benchmark.studies.malloc_settings $(basename $(notdir $(CHECKPOINTS))) --repository $(TEST_REPOSITORY)
	$(SERVE)/python -m benchmark.studies.malloc_settings coffee_ctc --hollow --repository $(TEST_REPOSITORY)

benchmark-overload: install $(REPORT)/repository/.exported ## compare queues at three times the capacity, into docs/overload.md; 25 minutes
	$(SERVE)/python -m benchmark.studies.overload.run $(REPORT_LOADED) --repository $(REPORT)/repository \
		--manifest $(MANIFEST) --note "$(BATCHING_NOTE)" --out docs/overload.md

benchmark-precision: install $(PRECISION)/.begun $(PRECISION_MODELS:%=$(REPORT)/%.nemo) ## compare fp32, fp16 and int8, into docs/precision.md; 30 minutes
	$(SERVE)/python -m benchmark.studies.precision.run $(CHECKPOINTS:%=%=$(ORDERS)) \
		$(PRECISION_MODELS:%=$(REPORT)/%.nemo=$(MANIFEST)) --repository $(PRECISION) \
		--export-python $(EXPORT)/python --out docs/precision.md

# Start empty when the export changes: models of an older export would be reused.
$(GPU)/.begun: $(EXPORT_CODE)
	rm -rf $(@D)
	mkdir -p $(@D)
	touch $@

benchmark-gpu: install $(GPU)/.begun $(GPU_MODELS:%=$(REPORT)/%.nemo) ## compare ways to serve on a GPU, into docs/gpu_served.md (SERVER=server-gpu)
	$(SERVE)/python -m benchmark.studies.gpu demo/coffee_ctc.nemo $(GPU_MODELS:%=$(REPORT)/%.nemo) --speech $(MANIFEST) \
		--repository $(GPU)/repository --export-python $(EXPORT)/python --out $(GPU) --report docs/gpu_served.md

# Large weights are generated from their names, so they need not be copied to the GPU machine.
$(GPU_PACK)/seeded/%.nemo: $(wildcard verification/full_size/*models.py verification/full_size/model_parts.py) \
		verification/full_size/make_checkpoint.py verification/full_size/random_weights.py verification/full_size/seeded.py | install
	rm -f $@
	$(EXPORT)/python -m verification.full_size.make_checkpoint $* --seeded --nemo-version 2.7.3 --out $@

gpu-pack: install $(GPU_PACKED:%=$(GPU_PACK)/seeded/%.nemo) ## pack all that a GPU machine without a network needs, into build/gpu_pack; 30 minutes
	rm -rf $(GPU_PACK)/packed
	$(EXPORT)/python -m benchmark.studies.gpu.pack $(CHECKPOINTS) $(GPU_PACKED:%=$(GPU_PACK)/seeded/%.nemo) --out $(GPU_PACK)/packed
	$(SERVE)/python -m benchmark.studies.gpu.portable --out $(GPU_PACK)/portable

report: report-served report-compared sclite ## speed, latency and WER, also of NeMo and other packages, into docs/report; half an hour
	$(SERVE)/python -m benchmark.score $(REPORT_RESULTS)
	rm -f docs/report/*.svg
	$(SERVE)/python -m benchmark.report $(REPORT_RESULTS) --out docs/report --title "$(REPORT_TITLE)"
	$(if $(WORDS),mv docs/report/speechloop.md docs/speechloop.md)

report-served: $(REPORT)/repository/.exported $(REPORT)/data/.prepared
	code=0; $(RUN) 'coffee_*' --data $(REPORT)/data/orders || code=$$?; \
		$(RUN) $(REPORT_LOADED) --data $(REPORT)/data/read || code=$$?; exit $$code

report-compared: $(REPORT)/repository/.exported $(REPORT)/data/.prepared $(COMPARED:%=$(REPORT)/baseline_models/%/.written) $(BASELINES_READY)
	$(COMPARE) coffee_rnnt $(RNNT_BASELINES) --data $(REPORT)/data/orders $(SAME_WEIGHTS)
	$(COMPARE) coffee_ctc --checkpoint demo/coffee_ctc.nemo --baseline-models $(REPORT)/baseline_models/coffee_ctc \
		--data $(REPORT)/data/orders $(SAME_WEIGHTS)
	set -e; for model in $(REPORT_FULL_SIZE); do $(COMPARE) $$model --checkpoint $(REPORT)/$$model.nemo \
		--baseline-models $(REPORT)/baseline_models/$$model --data $(REPORT)/data/read $(SAME_WEIGHTS); done
	$(if $(WORDS),$(COMPARE) coffee_rnnt $(RNNT_BASELINES) --data $(REPORT)/data/words --without faster_whisper)

$(REPORT)/data/.prepared: $(ORDERS) $(MANIFEST) $(WORDS) | install
	$(SERVE)/python -m benchmark.prepare orders=$(ORDERS) read=$(MANIFEST) $(WORDS:%=words=%) --out $(@D)
	touch $@

report-later: COMPARE_IN := $(LATER)
report-later: $(LATER)/repository/.exported $(REPORT)/data/.prepared $(REPORTED_LATER:%=$(REPORT)/baseline_models/%/.written) $(BASELINES_READY) ## the same for two Parakeets, as served and by other packages, into docs/report_later; an hour
	set -e; for model in $(REPORTED_LATER); do $(COMPARE) $$model --checkpoint $(REPORT)/$$model.nemo \
		--baseline-models $(REPORT)/baseline_models/$$model --data $(REPORT)/data/read $(SAME_WEIGHTS) \
		$$(test $$model = $(RELOADED) && echo --reload); done
	$(SERVE)/python -m benchmark.score $(LATER)/results
	rm -f docs/report_later/*.svg
	$(SERVE)/python -m benchmark.report $(LATER)/results --out docs/report_later --title "$(LATER_TITLE)"

# Marked as written by the installed NeMo, because NeMo reads every checkpoint with its current front end.
$(REPORT)/%.nemo: $(wildcard verification/full_size/*.py) | install
	rm -f $@
	$(EXPORT)/python -m verification.full_size.make_checkpoint $* --nemo-version 2.7.3 --out $@

$(REPORT)/repository/.exported: $(CHECKPOINTS) $(REPORT_FULL_SIZE:%=$(REPORT)/%.nemo) $(EXPORT_CODE)
	rm -rf $(@D)
	$(EXPORT)/python export_scripts/export.py $(CHECKPOINTS) $(REPORT_FULL_SIZE:%=$(REPORT)/%.nemo) --repository $(@D)
	touch $@

$(REPORT)/baseline_models/coffee_%/.written: demo/coffee_%.nemo benchmark/baselines/baseline_models.py | install
	$(EXPORT)/python -m benchmark.baselines.baseline_models $< --out $(@D)
	touch $@

$(LATER)/repository/.exported: $(REPORTED_LATER:%=$(REPORT)/%.nemo) $(EXPORT_CODE)
	rm -rf $(@D)
	$(EXPORT)/python export_scripts/export.py $(REPORTED_LATER:%=$(REPORT)/%.nemo) --repository $(@D) $(BUSY_CPU)
	touch $@

$(REPORT)/baseline_models/%/.written: $(REPORT)/%.nemo benchmark/baselines/baseline_models.py | install
	$(EXPORT)/python -m benchmark.baselines.baseline_models $< --out $(@D)
	touch $@

perf-analyzer: $(PERF_ANALYZER)/.installed $(REPORT)/repository/.exported $(REPORT)/data/.prepared ## compare bench.py with Triton's perf_analyzer
	$(SERVE)/python -m benchmark.studies.perf_analyzer \
		stt_en_citrinet_256 --repository $(REPORT)/repository --manifest $(REPORT)/data/read/manifest.jsonl \
		--out $(PERF_ANALYZER) --concurrency 8 --rate 5 --perf-analyzer $(PERF_ANALYZER)/run

# This client package for Linux contains perf_analyzer. Two libraries that it needs come from the server's package.
$(PERF_ANALYZER)/.installed: | install
	$(SERVE)/pip install -q --no-deps --upgrade --target $(@D) --platform manylinux1_x86_64 --only-binary=:all: \
		tritonclient==2.51.0
	mkdir -p $(@D)/lib
	ln -sf $(PYTRITON_LIBS)/libb64-*.so.0d $(@D)/lib/libb64.so.0d
	ln -sf $(PYTRITON_LIBS)/libcudart-*.so.12* $(@D)/lib/libcudart.so.12
	printf '#!/bin/sh\nLD_LIBRARY_PATH=%s:%s exec %s "$$@"\n' $(abspath $(@D)/lib) $(PYTRITON_LIBS) \
		$(abspath $(@D)/bin/perf_analyzer) > $(@D)/run
	chmod +x $(@D)/run
	touch $@

sclite: ## install NIST's scorer, on Debian and Ubuntu as root
	@test -x /usr/lib/sctk/bin/sclite || command -v sclite > /dev/null \
		|| { apt-get update -qq && apt-get install -y -qq sctk; } > /dev/null 2>&1 \
		|| echo "sclite is missing and can't be installed (package sctk): scores are not compared with it"

docker-tools: $(DEPLOYMENT)/.installed ## install what the tests of docker/ need: linters, schemas, Prometheus

# Prometheus is unpacked, not installed: installing Debian's package starts a service.
$(DEPLOYMENT)/.installed: pyproject.toml constraints/serve.txt | install
	mkdir -p $(@D)
	$(SERVE)/pip install -q -c constraints/serve.txt -e '.[deployment]'
	$(SERVE)/pip install -q --no-deps --upgrade --target $(@D)/kserve kserve==0.21.0
	cd $(@D) && npm install -s --no-audit --no-fund @kubernetes-models/keda@2.0.0 \
		@kubernetes-models/prometheus-operator@6.0.0 @kubernetes-models/gateway-api@2.0.0 \
		|| echo "npm is missing: the chart is not checked with the schemas of KEDA, Prometheus operator and Gateway API"
	rm -f $(@D)/prometheus_*.deb
	cd $(@D) && { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; } \
		> /dev/null 2>&1 && dpkg -x prometheus_*.deb prometheus \
		|| echo "Debian's package prometheus can't be downloaded: rules and dashboard are not tested with Prometheus"
	touch $@

image-proof: $(TEST_REPOSITORY)/.exported $(DEPLOYMENT)/.installed ## build the images without Docker, run and measure them; Debian, as root
	command -v buildah podman runc debootstrap > /dev/null && dpkg -s netavark aardvark-dns > /dev/null 2>&1 \
		|| { apt-get update -qq && apt-get install -y -qq --no-install-recommends \
			buildah podman runc netavark aardvark-dns iptables debootstrap; } > /dev/null
	PATH=$(abspath $(SERVE)):$$PATH docker/proof/prove_images.sh $(TEST_REPOSITORY) $(basename $(notdir $(firstword $(CHECKPOINTS))))

# Marked as written by the installed NeMo, because NeMo reads every checkpoint with its current front end.
$(BATCHING)/.exported: $(wildcard verification/full_size/*.py) $(EXPORT_CODE) | install
	rm -rf $(@D)
	$(EXPORT)/python -m verification.full_size.make_checkpoint $(BATCHING_MODEL) --nemo-version 2.7.3 \
		--out $(BATCHING)/$(BATCHING_MODEL).nemo
	$(EXPORT)/python export_scripts/export.py $(BATCHING)/$(BATCHING_MODEL).nemo --repository $(BATCHING)/repository
	touch $@

lint: install ## run ruff and mypy
	$(SERVE)/ruff check .
	$(SERVE)/ruff format --check .
	$(EXPORT)/mypy --strict $(EXPORT_CHECKED)
	$(SERVE)/mypy --strict $(SERVE_CHECKED)

format: install ## reformat the code with ruff
	$(SERVE)/ruff check --fix .
	$(SERVE)/ruff format .

clean: ## remove build/ and caches, keep the virtual environments
	rm -rf build .mypy_cache .ruff_cache .pytest_cache
