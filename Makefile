# Every target sets up .venv first when it is not there, or when pyproject.toml or constraints.txt have changed.

READY := .venv/.ready
DOCS := .venv/.docs
VENV_PYTHON := .venv/bin/python
INSTALL = PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
  $(VENV_PYTHON) -m pip install -qq --editable
ARGS ?=
BUDGET ?= quick
# A study is a file experiments/<name>/study.py: its target is that of its STUDY, its help the file's first line.
STUDIES := $(shell sed -n 's/^    target="\(.*\)",.*/\1/p' experiments/*/study.py)
HELP_OF_STUDIES := 'FNR == 1 { gsub(/^"""|\.(""")?$$/, ""); help = $$0 } /^    target="/ { print $$2 ": \#\# " help " (BUDGET)" }'

.DEFAULT_GOAL := help
.PHONY: help setup run test test-all torture bench few-samples check docs sync ui report reproduce $(STUDIES)

help: ## List the targets
	@{ grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST); awk -F '"' $(HELP_OF_STUDIES) experiments/*/study.py; } \
	  | sort | awk -F ':.*## ' '{ printf "make %-12s %s\n", $$1, $$2 }'

setup: $(READY) ## Make .venv with every dependency pinned (PYTHON=python3.12 chooses the interpreter)

run: $(READY) ## Train IWAE with 50 samples on MNIST and measure it (ARGS="seed=1" adds or overrides)
	@$(VENV_PYTHON) run.py objective=iwae k=50 $(ARGS)

test: $(READY) ## Run the tests, a file at a time on each core; one that hangs ends after 10 minutes (ARGS="-k hmc")
	@$(VENV_PYTHON) -m pytest -m 'not slow' -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
	  --timeout 600 $(ARGS)

test-all: $(READY) ## Run the slow tests too, for which Debian's PostgreSQL is installed where there is none (as root)
	@$(VENV_PYTHON) -m pytest $(ARGS)

torture: $(READY) ## Kill 100 runs and 50 packed sweeps at random moments and continue them, and run 20 parallel sweeps
	@$(VENV_PYTHON) tests/helpers/torture_command.py $(ARGS)

bench: $(READY) ## Measure the speed beside JAX and pythae, as far as these are installed, some minutes (experiments/speed)
	@$(VENV_PYTHON) -m experiments.speed.bench $(ARGS)

few-samples: $(READY) ## Train IWAE by all and by few samples, three seeds each, and measure the gradient's variance: hours
	@$(VENV_PYTHON) run.py -m objective=iwae k=50 objective.num_exact=null,4 seed=0,1,2
	@$(VENV_PYTHON) -m experiments.few_samples.measure $(ARGS)

reproduce: ## All studies, at the budget BUDGET=quick, day or paper

$(STUDIES) reproduce: $(READY)
	@$(VENV_PYTHON) -m experiments $@ --budget $(BUDGET) $(ARGS)

report: $(READY) ## Write outputs/report/ from the finished runs in MLflow (ARGS=--keep: into experiments/ too)
	@$(VENV_PYTHON) -m experiments report $(ARGS)

check: $(READY) ## Lint, check the format and the types
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m ruff format --check .
	@$(VENV_PYTHON) -m mypy

docs: $(DOCS) ## Build the documentation site, outputs/site/index.html
	@NO_MKDOCS_2_WARNING=1 $(VENV_PYTHON) -m mkdocs build --quiet
	@echo 'the site: outputs/site/index.html'

sync: $(READY) ## Deliver to MLflow the records in outputs/ that it lacks
	@$(VENV_PYTHON) run.py sync=true $(ARGS)

ui: $(READY) ## Show the recorded runs in MLflow's pages, at http://127.0.0.1:5000
	@$(VENV_PYTHON) -m evidence.tracking.ui $(ARGS)
	@$(VENV_PYTHON) -m mlflow ui --host 127.0.0.1 $(ARGS)

# A name on the path may not start (a pyenv shim) or lack venv's own pip (Debian's python3), so each is tried.
# The stamp goes first and comes back last: without it the .venv is a broken-off one and is made anew.
$(READY): pyproject.toml constraints.txt
	@for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
	  "$$python" -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	    && break; \
	  python=; \
	done; \
	if [ -z "$$python" ]; then \
	  echo 'Found no Python 3.11 to 3.13 with venv: install one, or name it: make setup PYTHON=/path/to/python3.12' >&2; \
	  exit 1; \
	fi; \
	[ -e $@ ] || rm -rf .venv; \
	rm -f $@; \
	if [ ! -d .venv ]; then \
	  echo "Making .venv with $$("$$python" --version): some GB of packages, a few minutes ..."; \
	  "$$python" -m venv .venv || exit 1; \
	else \
	  echo 'Updating .venv to pyproject.toml and constraints.txt ...'; \
	fi; \
	$(INSTALL) '.[dev]' || exit 1; \
	touch $@; \
	echo '.venv is ready.'

$(DOCS): $(READY)
	@$(INSTALL) '.[docs]'
	@touch $@
