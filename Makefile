# `make demo` and `make test` work on a fresh machine with Python >= 3.11; everything else builds on the same .venv.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
BIN := .venv/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
SOURCES := pyproject.toml constraints.txt
# One thread per process: the work is spread over processes, and results stay bit-identical.
export OMP_NUM_THREADS := 1
export NO_MKDOCS_2_WARNING := 1

.PHONY: help demo test test-slow lint format bench tables docs build clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: .venv/.demo ## install, train 12 small runs on the toy dataset, print their table (about 2 minutes of two cores)
	rm -rf demo-results
	$(BIN)/rsbench run --dataset toy --method infonce,srem --noise 0,0.6 --seeds 3 --out demo-results

test: .venv/.dev ## install, run the tests (under 5 minutes)
	$(BIN)/python -m pytest --numprocesses $(JOBS)

test-slow: .venv/.slow ## the tests that take minutes, those of Ray and SLURM among them
	$(BIN)/python -m pytest -m slow

lint: .venv/.dev ## style, annotations, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.dev ## let ruff format and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.dev ## speed of the evaluator against the bare matrix product
	$(BIN)/python benchmarks/evaluator.py

tables: .venv/.dev ## the tables of README and docs, from the committed results
	$(BIN)/python docs/fill_tables.py

docs: .venv/.docs ## the documentation as a site, in site/
	$(BIN)/mkdocs build --strict

build: .venv/.dev ## source and wheel packages, in dist/
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

clean: ## remove everything that make made, .venv included
	rm -rf .venv dist build site demo-results .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rsbench needs Python >= 3.11; try: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

.venv/.demo: .venv/bin/python $(SOURCES)
	$(INSTALL) '.[methods]'
	@touch $@

.venv/.dev: .venv/bin/python $(SOURCES)
	$(INSTALL) '.[methods,lite,report,dev]'
	@touch $@ .venv/.demo

.venv/.slow: .venv/.dev
	$(INSTALL) '.[ray,slurm,ddp]'
	@touch $@

.venv/.docs: .venv/bin/python $(SOURCES)
	$(INSTALL) '.[docs]'
	@touch $@
