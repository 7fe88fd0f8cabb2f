PYTHON ?= python3
DATA ?= data
RUN ?= runs/model
MINUTES ?= 70
SEEDS ?= 2
JOBS ?= 1
RUNS ?= runs/folds
OUT ?= runs/artifacts
SERVE := .venv/bin
BENCH := .venv-bench/bin
DEV := .venv-dev/bin
# Three processes share the cores: more threads of each would only wait for one another.
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(DEV)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help serve serve-env bench bench-env dev-env lint quick test train export model

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: serve-env ## answer on port 8000 with the shipped model
	$(SERVE)/gunicorn serve.app:app

serve-env: .venv/installed ## .venv: what serving, the command line and the library need
bench-env: .venv-bench/installed ## .venv-bench: that and what the benchmarks and the scorer need
dev-env: .venv-dev/installed ## .venv-dev: everything, with PyTorch, for training and the tests

bench: bench-env ## time the server on this machine: under 3 minutes
	$(BENCH)/python benchmarks/latency.py

lint: .venv-lint/installed ## check the style
	.venv-lint/bin/ruff check
	.venv-lint/bin/ruff format --check

quick: lint dev-env ## check the style and run the tests that start nothing: under a minute
	$(PYTEST) -m "not slow"

test: lint dev-env ## check the style and run all tests: about 6 minutes on two cores
	@echo "The tests start servers and browsers and train small networks: about 6 minutes on two cores."
	$(PYTEST) -rs

train: dev-env ## train one network: make train DATA=folder RUN=runs/name MINUTES=70
	$(DEV)/python -m train.fit --data $(DATA) --out $(RUN) --minutes $(MINUTES)

export: dev-env ## turn that network into a file to serve: make export RUN=runs/name
	$(DEV)/python -m export --weights $(RUN)/weights.safetensors --data $(DATA)

model: dev-env ## from ImageNet weights to model.onnx and fast.onnx: make model DATA=folder OUT=runs/artifacts
	$(DEV)/python -m train.crossval --data $(DATA) --out $(RUNS) --seeds $(SEEDS) \
		--minutes $(MINUTES) --jobs $(JOBS)
	$(DEV)/python -m train.out_of_fold --weights $(RUNS)/weights/fold-?.safetensors --data $(DATA) --out $(OUT)
	mkdir -p $(OUT)/weights && cp $(RUNS)/weights/fold-?.safetensors $(OUT)/weights/
	$(DEV)/python -m export --weights $(OUT)/weights/fold-?.safetensors --data $(DATA) \
		--operating-points $(OUT)/out_of_fold.json --out $(OUT)/model.onnx
	$(DEV)/python -m export --weights $(OUT)/weights/fold-[01].safetensors --data $(DATA) \
		--operating-points $(OUT)/out_of_fold.json --out $(OUT)/fast.onnx

define NO_GPU
There is no GPU here, and PyTorch's usual build is gigabytes for one. Take its CPU build first: choose
"Pip" and "CPU" at https://pytorch.org/get-started/locally/, and install $(shell grep ^torch== requirements-train.txt) with the
command shown there by .venv-dev/bin/python -m pip; then make again. TORCH=any takes the usual build.
endef
export NO_GPU

# The empty file `installed` is younger than the requirements once all of them are there. One file
# at a time: where one has hashes, pip would ask for those of all others as well.
.venv/installed: requirements-serve.txt
.venv-bench/installed: requirements-serve.txt requirements-benchmarks.txt
.venv-lint/installed: requirements-lint.txt
.venv-dev/installed: requirements-serve.txt requirements-benchmarks.txt requirements-train.txt \
		requirements-scan.txt requirements-metrics.txt requirements-test.txt requirements-lint.txt
%/installed:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"error: Python 3.11 or newer is needed; name it with PYTHON=...")'
	$(PYTHON) -m venv $(@D)
	@[ $(@D) != .venv-dev ] || [ -n "$(TORCH)" ] || command -v nvidia-smi >/dev/null \
		|| [ "$$(uname -sm)" != "Linux x86_64" ] || $(@D)/bin/python -c "import torch" 2>/dev/null \
		|| { echo "$$NO_GPU" >&2; [ ! -t 0 ]; }
	for file in $^; do \
		$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $$file || exit 1; \
	done
	touch $@
