# Every target makes the environment it needs; `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	--custom-compile-command "make lock"
MINUTES ?= 30
WORKERS = $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 4 ? cores + 1 : 4)))
AUDIT := $(VENV)-audit
COMPOSE = docker compose -f docker-compose.yml $(if $(VARIANT),-f compose.$(VARIANT).yml)
PACKAGES := bench deploy driftline drift_worker kafka_runtime schemas scorer

.PHONY: help .venv native demo demo-life test check chart chaos docs soak fuzz audit quality bench up down logs smoke lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z.-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv: $(VENV)/.installed ## the Python environment, from the lock file

# Redone only when the lock or the project file changes. The lock is complete, so nothing is resolved (--no-deps): pip
# would else take the newest release for a requirement with an extra, which the lock names without it, and refuse it.
$(VENV)/.installed: requirements-dev.lock pyproject.toml
	@python=""; seen=""; \
	for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14; do \
	  version=$$($$candidate -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	  seen="$$seen $$candidate=$$version"; \
	  if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "make: Python 3.11 or newer is needed; found:$${seen:- none} (name one with make PYTHON=/path/to/python3)" >&2; exit 2; fi; \
	if ! $$python -c 'import venv, ensurepip' 2>/dev/null; then \
	  echo "make: $$python has no venv module: install it (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 2; fi; \
	set -e; echo "make: installing into $(VENV) with $$python (a minute or two, once)"; \
	$$python -m venv $(VENV); \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	touch $@

# Optional: everything works without it. The wheel is for machines and images without Rust (native/README.md).
native: .venv ## the native lane of the scorer, built with cargo (a minute) and installed into the environment
	@if ! command -v cargo > /dev/null; then echo "make: no cargo: the scorer works without the native lane" >&2; exit 2; fi
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist ./native
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall dist/driftline_native-*.whl
	@$(BIN)/python -c 'import driftline_native; print("make: driftline-native", driftline_native.VERSION)'

demo: .venv ## the whole pipeline on this machine, in under three minutes
	@$(BIN)/driftline demo

demo-life: .venv ## a model from its training to its successor: drift that hurts, an alert, a better model; three minutes
	@$(BIN)/driftline demo-life

# A process more than cores, four at most: each has a Kafka of its own. A quarter of the suite's time is waiting.
test: .venv ## the whole test suite, on a real Kafka that it starts itself; PYTEST='--cov' or any other pytest option
	@$(BIN)/python tests/support/prometheus_tools.py
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal $(PYTEST)

check: .venv ## format, lint, types and the quick tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet $(wildcard tests/unit tests/property tests/golden)

chart: .venv ## the Helm chart checked with helm and kubeconform, built with Go (minutes, once); SERVER=1: and an API server
	@PYTHONPATH=tests $(BIN)/python -m support.kubernetes_tools $(if $(SERVER),--server)
	@$(BIN)/python -m pytest --quiet $(if $(SERVER),--long) tests/packaging/test_chart.py

docs: .venv ## what is generated: JSON Schemas of all records, AsyncAPI, docs/metrics.md, dashboards
	@$(BIN)/python -m schemas.documents.export
	@$(BIN)/python -m deploy.generate

chaos: .venv ## every fault in its long form; ROW=8 that one, SEED=7 that chance, MINUTES=30 repeated for that time
	@OMP_NUM_THREADS=1 $(BIN)/python tests/chaos/again.py $(if $(ROW),--row $(ROW)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(filter command environment,$(origin MINUTES)),--minutes $(MINUTES))

soak: .venv ## both services under a stream for MINUTES (30), steady and then with a fault a minute: their memory must not grow
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --capture=no --minutes $(MINUTES) tests/soak

# atheris has no wheel for some Pythons and systems; the mutations need none. In a folder of its own, beside the lock's.
fuzz: .venv ## every reader of foreign bytes, for MINUTES (30): findings are kept in tests/hostile/found
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --no-deps --require-hashes \
	  --target $(VENV)/fuzz -r tests/hostile/fuzz.lock || echo "make: no atheris for this Python"
	@OMP_NUM_THREADS=1 PYTHONPATH=tests:$(VENV)/fuzz $(BIN)/python -m hostile.fuzz --minutes $(MINUTES)

audit: .venv ## known vulnerabilities of what is locked (pip-audit), and artifacts/sbom.cdx.json (CycloneDX)
	@test -x $(AUDIT)/bin/pip-audit || $(BIN)/python -m venv $(AUDIT)
	@$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r deploy/audit.lock
	@$(AUDIT)/bin/python deploy/audit.py

quality: .venv ## false, missed and late alerts on streams whose truth is known, beside other tools; writes docs/quality.md
	@OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m quality.full --write

bench: .venv ## speed of scorer and drift worker beside alternatives; three quarters of an hour
	@$(BIN)/driftline bench
	@OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m quality.cost
	@OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m quality.drift_stages

up: ## everything in containers (docker compose); VARIANT=secure: TLS, passwords and ACLs, VARIANT=cluster: three brokers
	GIT_COMMIT=$$(git rev-parse HEAD 2>/dev/null) $(COMPOSE) up --build --detach --wait

down: ## stop the containers; the volumes stay (VARIANT as with up)
	$(COMPOSE) --profile '*' down

logs: ## the containers' logs, as they are written
	$(COMPOSE) logs --follow --tail 50

smoke: ## bring up a separate stack, use it, kill scorers, take it down; VARIANT as with up, WITHOUT=grafana leaves that out
	@$(or $(PYTHON),python3) deploy/smoke.py $(if $(VARIANT),--variant $(VARIANT)) $(addprefix --without ,$(WITHOUT)) $(SMOKE)

lock: .venv ## compile the lock files again from pyproject.toml
	$(COMPILE) pyproject.toml --output-file requirements.lock
	$(COMPILE) --extra broker --extra dev --extra mlflow --extra otel --extra registry --constraint requirements.lock pyproject.toml --output-file requirements-dev.lock
	sed -n 's/^requires = \["\(.*\)"\]/\1/p' pyproject.toml | \
	  $(COMPILE) --constraint requirements-dev.lock - --output-file requirements-build.lock
	for peer in bench/peers/*.in; do $(COMPILE) --no-annotate --output-file $${peer%.in}.lock $$peer \
	  --constraint <(grep -oE '^(joblib|numpy|pandas|scikit-learn|scipy)==[^ ]+' requirements.lock) || exit 1; done
	for peer in tests/quality/peers/*.in driftline/evidently/*.in deploy/mlflow/*.in deploy/audit.in tests/hostile/fuzz.in; do $(COMPILE) --no-annotate --output-file $${peer%.in}.lock $$peer || exit 1; done

clean: ## remove the environment and all generated files
	rm -rf $(VENV) $(AUDIT) artifacts build dist native/target .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +
