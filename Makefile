# Each target makes the environment it needs. `make run` needs no torch; everything else works in .venv-dev.

PYTHON ?= python3
DEV := .venv-dev/bin
BENCH := .venv-bench/bin
DATA ?= data
# Training on a CPU without these spends most of its time in page faults: every large tensor is unmapped and mapped anew.
test test-slow train bench-training: export MALLOC_MMAP_THRESHOLD_ := 2000000000
test test-slow train bench-training: export MALLOC_TRIM_THRESHOLD_ := 4000000000

.PHONY: run test test-slow test-containers bench bench-memory bench-tracing bench-training lint documents format train clean

run: .venv/installed
	.venv/bin/python -m service

test: lint
	$(DEV)/pytest -m "not slow"

test-slow: .venv-dev/installed
	$(DEV)/pytest -m slow

test-containers: .venv-dev/installed
	tests/containers/check.sh $(or $(WORK),build/containers)

# The service beside the offline loop and its peers, an hour on two cores that do nothing else: build/bench/report.md.
bench: .venv/installed .venv-bench/installed
	rm -f build/bench/*.jsonl build/bench/report.*
	$(BENCH)/python -m tests.benchmarks.footprint
	$(BENCH)/python -m tests.benchmarks.engine --seconds 0.5
	$(BENCH)/python -m tests.benchmarks.serving

bench-memory: .venv/installed .venv-bench/installed
	$(BENCH)/python -m tests.benchmarks.memory_growth

# What traces cost in CPU, and how long /metrics takes while all CPUs are busy; 15 minutes.
bench-tracing: .venv-dev/installed
	$(DEV)/python -m tests.benchmarks.tracing

# What caching and batching are worth, and how a run of COCO's size starts; needs 60 GB of disk that it does not fill.
bench-training: .venv-dev/installed
	$(DEV)/python -m tests.benchmarks.training_start $(or $(WORK),build/coco-size)
	$(DEV)/python -m tests.benchmarks.training_throughput $(or $(WORK),build/coco-size)

lint: .venv-dev/installed
	$(DEV)/ruff format --check .
	$(DEV)/ruff check .
	$(DEV)/mypy
	$(DEV)/lint-imports

# The OpenAPI document, and the tables of settings and metrics, as the code has them.
documents: .venv-dev/installed
	$(DEV)/python -m tests.documents

format: .venv-dev/installed
	$(DEV)/ruff format .
	$(DEV)/ruff check --fix .

# Retrain the default model, an hour and a half on two cores: DATA holds flickr8k/ and coco-sample/ in COCO layout.
# Serve it with CAPTION_MODEL=models make run.
train: .venv-dev/installed
	$(DEV)/python -m trainer train --preset flickr8k-default --data $(DATA) --model runs/first
	$(DEV)/python -m trainer train --preset flickr8k-default --data $(DATA) --model runs/default --start-from runs/first \
	    --epochs 0 --fine-tune-epochs 8 --encoder-learning-rate 1.5e-4 --consensus 0.5
	$(DEV)/python -m trainer publish --model runs/default --data $(DATA) --volume models

# The rules once more, in the shape that the Prometheus operator wants.
service/kubernetes/monitoring/prometheus-rule.yaml: service/monitoring/rules.yml
	{ sed '/^spec:/q' $@; sed '/^groups:/,$$!d; s/^./  &/' $<; } > $@.new
	mv $@.new $@

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --editable .
	touch $@

.venv-dev/installed: pyproject.toml
	$(PYTHON) -m venv .venv-dev
	$(DEV)/pip install --quiet --editable '.[otel,trainer,lite-weights,dev]'
	touch $@

.venv-bench/installed: pyproject.toml
	$(PYTHON) -m venv .venv-bench
	$(BENCH)/pip install --quiet --editable '.[trainer,bench]'
	touch $@

clean:
	rm -rf .venv .venv-dev .venv-bench build runs
