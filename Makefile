# Set up, run and test the project; needs only Python 3.10 to 3.13 and make: `make demo`, `make test`.

# The Python for .venv/; empty: the first usable one of PYTHONS.   make setup PYTHON=python3.12
PYTHON ?=
# The uv command for installing packages; if missing, uv is installed into .venv/, and if that fails pip is used.   make setup UV=false
UV ?= uv
# Further arguments for pytest.   make test ARGS="-k metrics"
ARGS ?=
# Test processes; auto: one per core.   make test JOBS=1
JOBS ?= auto

PYTHONS := python3 python3.13 python3.12 python3.11 python3.10
USABLE  := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
# The newest matching pair for all four Pythons: torchvision itself only requires "at least" its torch.
TORCH   := torch==2.14.1 torchvision==0.29.1
VENV    := .venv
PY      := $(VENV)/bin/python
STAMP   := $(VENV)/.complete

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint format pins clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## build .venv/ from requirements.txt; does nothing if it is up to date

demo: setup ## train PatchCore-noising on the demo data: metrics, pictures and a report
	$(PY) tools/main.py --config configs/patchcore_noising/patchcore_noising_demo.py --cls_names all --overwrite

test: lint ## lint, types and all tests: what CI runs
	$(PY) -m pytest --numprocesses $(JOBS) --dist worksteal $(ARGS)

check: lint ## the inner loop: lint, types and all tests not marked slow
	$(PY) -m pytest --numprocesses $(JOBS) --dist worksteal -m "not slow" $(ARGS)

lint: setup ## ruff and mypy only
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: setup ## apply the automatic fixes of ruff
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

pins: ## write requirements.txt from pyproject.toml; UPGRADE=1 takes newer releases
	printf '%s\n' $(TORCH) | \
	$(UV) pip compile --quiet --universal --python-version 3.10 --no-python-downloads --no-annotate \
	    --custom-compile-command "make pins  (exact versions for Python 3.10 to 3.13; UPGRADE=1 takes newer releases)" \
	    --extra weights --extra dev $(if $(UPGRADE),--upgrade) --constraints /dev/stdin --output-file requirements.txt pyproject.toml

clean: ## remove .venv/ and the tool caches; data and runs stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis

# The stamp is written last and holds the path of the checkout. If it is missing, the build was interrupted; if its path
# differs, the checkout was moved or copied: .venv/ is then rebuilt. If only the pins are newer, they are installed.
ifneq ($(shell cat $(STAMP) 2>/dev/null && $(PY) -c '' && echo works),$(CURDIR) works)
.PHONY: $(STAMP)
endif

$(STAMP): requirements.txt pyproject.toml
	@set -eu; \
	if [ "$$(cat $(STAMP) 2>/dev/null)" != '$(CURDIR)' ] || ! $(PY) -c ''; then \
	    if [ -e $(VENV) ] && [ ! -e $(VENV)/.made-by-make ]; then \
	        echo 'setup: there is a $(VENV)/ that make did not build; move it away first' >&2; exit 1; \
	    fi; \
	    python=; \
	    for p in $(or $(PYTHON),$(PYTHONS)); do \
	        if "$$p" -c '$(USABLE)' 2>/dev/null; then python=$$p; break; fi; \
	    done; \
	    if [ -z "$$python" ]; then \
	        echo 'setup: no Python 3.10 to 3.13 among: $(or $(PYTHON),$(PYTHONS)). Name one with PYTHON=...' >&2; exit 1; \
	    fi; \
	    echo "setup: building $(VENV)/ with $$("$$python" --version)"; \
	    rm -rf $(VENV); mkdir $(VENV); touch $(VENV)/.made-by-make; \
	    "$$python" -m venv --without-pip $(VENV); \
	fi; \
	rm -f $(STAMP); \
	if $(UV) --version >/dev/null 2>&1; then install='$(UV) pip install --compile-bytecode --python $(PY)'; else \
	    $(PY) -m ensurepip >/dev/null; \
	    if $(PY) -m pip install --quiet uv; then install='$(PY) -m uv pip install --compile-bytecode --python $(PY)'; \
	    else echo 'setup: no uv to be had, going on with pip'; install='$(PY) -m pip install'; fi; \
	fi; \
	$$install -r requirements.txt; \
	$$install --quiet --no-deps --no-build-isolation --editable .; \
	echo '$(CURDIR)' > $(STAMP)
