# make demo   the whole pipeline on a generated cohort: five to seven minutes on two cores, no data, GPU or account needed
# make test   the tests, except those that take minutes
# make test-long  those: slides without signal on which all must score 0, kills, full disks, determinism, large slides
# make test-pythons  the demo and the tests on the oldest and newest Python found (PYTHONS="python3.11 python3.13"), tables compared
# make test-squidpy  predictions drawn by squidpy, in an environment of its own, .squidpy (1.2 GB)
# make test-slurm  the pipeline on its own SLURM cluster: apt-get install slurmctld slurmd slurm-client munge
# make bench  time and memory against references and the machine's limits: benchmarks/RESULTS.md
# make bench-scale  the whole workflow at the paper's size under its requested memory: hours, 24 GB, 40 GB of disk
# make lint   formatting, static checks and import contracts
# make docs   the documentation site, into site/
# make schemas  the JSON schemas in schemas/ from the settings in src/spotwise
# make lock   new versions of everything, into requirements.lock
# make clean  remove the demo's data and results, caches and the environment

SHELL := /bin/sh
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
UV_VERSION := 0.13.8
BIN := .venv/bin
DEMO := --cores 2 --configfile configs/demo.yaml

.PHONY: demo test test-long test-pythons test-squidpy test-slurm bench bench-scale lint docs schemas lock clean
.DEFAULT_GOAL := demo

# The environment: versions and hashes of requirements.lock, bytecode compiled so that jobs start quickly.
.venv/installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "spotwise needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --compile-bytecode --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --no-deps --no-build-isolation --editable .
	@touch $@

demo: .venv/installed
	$(BIN)/snakemake $(DEMO)
	@test -f results/demo/report.zip && test -z "$$(find results/demo/tables results/demo/figures -newer results/demo/report.zip)" || \
		$(BIN)/snakemake $(DEMO) --quiet all --report results/demo/report.zip
	@$(BIN)/python -m spotwise.reporting.tables results/demo/tables/table1.csv
	@echo
	@echo "Unpack results/demo/report.zip and open report.html: every table and figure with a caption."

test: .venv/installed
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not long"

test-long: .venv/installed
	$(BIN)/python -m pytest -m long

test-pythons:
	.ci/test-pythons $(PYTHONS)

.squidpy/installed: tests/viewers/requirements.lock .venv/installed
	$(PYTHON) -m venv --without-pip .squidpy
	$(BIN)/uv pip sync --quiet --python .squidpy/bin/python --require-hashes tests/viewers/requirements.lock
	@touch $@

test-squidpy: .squidpy/installed
	$(BIN)/python -m pytest tests/viewers

test-slurm: .venv/installed
	$(BIN)/python -m pytest -m slurm tests/slurm

bench: .venv/installed
	$(BIN)/python -m benchmarks

bench-scale: .venv/installed
	$(BIN)/python -m benchmarks.scale

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint
	$(BIN)/snakemake --lint --configfile configs/demo.yaml

docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --clean

schemas: .venv/installed
	$(BIN)/python -m spotwise.config schema

# Every supported Python gets the versions that the oldest one can have.
lock: .venv/installed
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --no-annotate --no-header \
		requirements.in --output-file .venv/oldest.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --constraint .venv/oldest.txt --generate-hashes \
		--no-emit-index-url --no-annotate --no-header requirements.in --output-file requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header tests/viewers/requirements.in --output-file tests/viewers/requirements.lock

clean:
	rm -rf .venv .squidpy .pythons .snakemake .pytest_cache .ruff_cache site data/generated results/demo
