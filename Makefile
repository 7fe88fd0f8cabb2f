PYTHON ?= python3
DATA ?= data
RUN ?= runs/model
MINUTES ?= 70
SEEDS ?= 2
JOBS ?= 1
RUNS ?= runs/folds
OUT ?= artifacts
SERVE := .venv/bin
DEV := .venv-dev/bin

.DEFAULT_GOAL := help
.PHONY: help serve test lint train model export bench

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: .venv/installed ## answer on port 8000 with the shipped model
	$(SERVE)/gunicorn serve.app:app

test: lint ## check the style and run all tests, about 10 minutes
	@echo "The tests start servers and browsers and train small networks: about 10 minutes on two cores."
	$(DEV)/python -m pytest -rs

lint: .venv-dev/installed ## check the style
	$(DEV)/ruff check
	$(DEV)/ruff format --check

train: .venv-dev/installed ## train one network: make train DATA=folder RUN=runs/name MINUTES=70
	$(DEV)/python -m train.fit --data $(DATA) --out $(RUN) --minutes $(MINUTES)

export: .venv-dev/installed ## turn that network into a file to serve: make export RUN=runs/name
	$(DEV)/python -m export --weights $(RUN)/weights.safetensors --data $(DATA)

model: .venv-dev/installed ## from ImageNet weights to artifacts/: make model DATA=folder SEEDS=2 JOBS=1
	$(DEV)/python -m train.crossval --data $(DATA) --out $(RUNS) --seeds $(SEEDS) \
		--minutes $(MINUTES) --jobs $(JOBS)
	$(DEV)/python -m train.out_of_fold --weights $(RUNS)/weights --data $(DATA) --out $(OUT)
	mkdir -p $(OUT)/weights && cp $(RUNS)/weights/fold-?.safetensors $(OUT)/weights/
	$(DEV)/python -m export --weights $(OUT)/weights/fold-?.safetensors --data $(DATA) \
		--operating-points $(OUT)/out_of_fold.json --out $(OUT)/model.onnx
	for weights in $(OUT)/weights/fold-?.safetensors; do \
		$(DEV)/python -m export --weights $$weights --data $(DATA) \
			--operating-points $(OUT)/out_of_fold.json \
			--out $(OUT)/members/$$(basename $$weights .safetensors).onnx || exit 1; \
	done

bench: .venv-dev/installed ## time the server on this machine: under 3 minutes
	$(DEV)/python benchmarks/latency.py

define NO_GPU
There is no GPU here, and PyTorch's usual build is gigabytes for one. Take its CPU build first: choose
"Pip" and "CPU" at https://pytorch.org/get-started/locally/, and install $(shell grep ^torch== requirements-train.txt) with the
command shown there by .venv-dev/bin/python -m pip; then make again. TORCH=any takes the usual build.
endef
export NO_GPU

# The empty file `installed` is younger than the requirements once all of them are there. One file
# at a time: where one has hashes, pip would ask for those of all others as well.
.venv/installed: requirements-serve.txt
.venv-dev/installed: requirements-serve.txt requirements-train.txt requirements-scan.txt requirements-test.txt
.venv/installed .venv-dev/installed:
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
