# make demo   set everything up and run the main job on real studies (ONCE=1: end when done; PACS=orthanc: a real Orthanc)
# make test   set everything up and pass the tests
# make check  what CI checks besides the tests: ruff, mypy, the layers, the docs

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACS ?= builtin
ONCE ?=
ARGS ?=
# Three test processes: most of a flow test is waiting. A file's tests stay together, since they share a PACS or a browser.
JOBS ?= 3
PYTEST = sh tests/run.sh $(BIN)/python -m pytest

.PHONY: demo test check deploy-check training lock peers clean

demo: $(VENV)/demo.done
	$(BIN)/firstlook demo --pacs $(PACS) $(if $(ONCE),--once) $(ARGS)

test: $(VENV)/dev.done $(VENV)/axe.done peers
	$(PYTEST) -n $(JOBS) --dist loadfile -m "not alone" $(ARGS) || test $$? -eq 5
	$(PYTEST) -m alone $(ARGS) || test $$? -eq 5

check: $(VENV)/dev.done
	$(BIN)/ruff check service tests models
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/yamllint -s deploy
	$(BIN)/python -m pytest -q tests/docs

# What runs it: Dockerfile, compose files, chart and units, with the tools that know them (about 100 MB).
deploy-check: $(VENV)/deploy.done
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml deploy/compose.gpu.yaml
	$(BIN)/python -m pytest -q tests/unit/test_deploy.py tests/unit/test_deploy_chart.py tests/unit/test_deploy_monitoring.py tests/unit/test_deploy_units.py

# What training on a CPU needs (torch and more); `make test` then tests the training too. On a GPU it needs all of
# requirements/train.lock, CUDA's libraries too.
training: $(VENV)/train.done

# DCMTK, Orthanc, Chromium and Prometheus: real peers of the tests, installed where apt and root are there.
peers:
	sh tests/peers.sh

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name it: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "The venv module is missing; on Debian or Ubuntu: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }

$(VENV)/demo.done: requirements/cpu.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/cpu.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/dev.done: requirements/dev.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@ $(VENV)/demo.done

# axe-core for the tests of the pages: of the package only its script is used, so nothing that it asks for is installed.
$(VENV)/axe.done: requirements/axe.lock $(VENV)/dev.done
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/axe.lock
	@touch $@

$(VENV)/deploy.done: requirements/deploy.lock $(VENV)/dev.done
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/deploy.lock
	@touch $@

$(VENV)/train.done: requirements/train.lock $(VENV)/dev.done
	grep -Ev '^(cuda|nvidia|triton)' requirements/train.lock > $(VENV)/train.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r $(VENV)/train.txt
	@touch $@

# Resolve the dependencies anew (needs uv).
UV := uv pip compile pyproject.toml -c requirements/constraints.txt --no-header --no-emit-index-url --no-emit-find-links -q
lock:
	$(UV) --universal --python-version 3.11 --generate-hashes --extra cpu --extra postgres --extra oidc --extra otel -o requirements/cpu.lock
	$(UV) --universal --python-version 3.11 --generate-hashes --extra gpu --extra postgres --extra oidc --extra otel -o requirements/gpu.lock
	$(UV) --universal --python-version 3.11 --generate-hashes --extra cpu --extra postgres --extra oidc --extra otel --extra ray --extra s3 -o requirements/cluster.lock
	$(UV) --universal --python-version 3.11 --generate-hashes --extra gpu --extra postgres --extra oidc --extra otel --extra ray --extra s3 -o requirements/cluster-gpu.lock
	$(UV) --universal --python-version 3.11 --generate-hashes --extra cpu --extra dev --extra postgres --extra oidc --extra otel -o requirements/dev.lock
	echo 'setuptools>=77' | $(subst pyproject.toml,-,$(UV)) --universal --python-version 3.11 --generate-hashes -o requirements/build.lock
	$(UV) --universal --python-version 3.11 --generate-hashes --extra cpu --extra dev --extra postgres --extra oidc --extra otel --extra deploy -c requirements/dev.lock -o requirements/deploy.lock
	$(UV) --python-version 3.11 --extra cpu --extra train -c requirements/dev.lock -o requirements/train.lock

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .import_linter_cache
