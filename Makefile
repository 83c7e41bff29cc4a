# Everything one does with this project. `make` alone lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The committed descriptions in .sqlx stand in for a database at build time.
export SQLX_OFFLINE := true
export WEFT_RUNTIME_DIR := $(CURDIR)/runtime

DATA ?= $(CURDIR)/.weft
LISTEN ?= 127.0.0.1:9100
SEED ?= 1

BUN_PROJECTS := $(patsubst %/bun.lock,%,$(wildcard integrations/*/bun.lock js/*/bun.lock crates/*/tests/*/bun.lock))
# Inside node_modules, so that whoever deletes the packages deletes the stamp too.
RUNTIME_READY := runtime/node_modules/.installed
JS_READY := js/node_modules/.installed crates/testkit/sign-on/node_modules/.installed crates/testkit/s3/node_modules/.installed examples/crm/node_modules/.installed $(BUN_PROJECTS:%=%/node_modules/.installed)

.PHONY: help up demo test check bench chaos conformance runtime js require

help: ## List the targets
	@echo "usage: make <target>"
	@sed -nE 's/^([a-z]+):.*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

up: require runtime ## Build the server and run it in the foreground (LISTEN=address:port, DATA=folder)
	@cargo build --package weft-cli
	@bin=$$(scripts/target-dir.sh)/debug; \
	echo; \
	echo "Starting on http://$(LISTEN), data in $(DATA). Stop with Ctrl-C."; \
	echo "Next, in another terminal:"; \
	echo "  export PATH=\"$$bin:\$$PATH\""; \
	echo "  weft login http://$(LISTEN)"; \
	echo; \
	export NPM_CONFIG_REGISTRY="$${NPM_CONFIG_REGISTRY:-$$(npm config get registry 2>/dev/null)}"; \
	exec "$$bin/weft" serve --listen "$(LISTEN)" --data-dir "$(DATA)"

demo: require runtime ## Deploy the Slack integration and use it against a fake Slack, all in a temporary folder
	@scripts/demo.sh

test: require runtime js ## Run all tests
	@scripts/require-browser.sh
	@scripts/test.sh

check: require runtime js ## Formatting, lints, licences, generated files, types
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	scripts/deny.sh
	cargo run --quiet --package weft-xtask -- check
	npm run check --prefix js

bench: require runtime ## Measure the release build against bare baselines, into bench/RESULTS.md
	cargo build --release --package weft-cli --package weft-bench
	$$(scripts/target-dir.sh)/release/weft-bench run --write

chaos: require runtime ## Kill and stop what runs, 400 times in mid-traffic, and check every promise (SEED=number)
	cargo build --package weft-chaos
	$$(scripts/target-dir.sh)/debug/weft-chaos --rounds 200 --seed $(SEED)
	$$(scripts/target-dir.sh)/debug/weft-chaos --rounds 200 --seed $(SEED) --site pair

conformance: require runtime ## Send what the OpenAPI document allows, and what it does not, and compare the answers (needs python3)
	@scripts/conformance/run.sh

runtime: $(RUNTIME_READY) ## Install Bun and PostgreSQL into runtime/
js: $(JS_READY) ## Install the packages for TypeScript

require:
	@scripts/require.sh

runtime/node_modules/.installed: runtime/package-lock.json runtime/package.json | require
	cd runtime && npm ci --ignore-scripts --no-audit --no-fund && npm run --silent prepare-runtime
	@touch $@

js/node_modules/.installed: js/package-lock.json js/package.json | require
	cd js && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

crates/testkit/sign-on/node_modules/.installed: crates/testkit/sign-on/package-lock.json crates/testkit/sign-on/package.json | require
	cd crates/testkit/sign-on && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

crates/testkit/s3/node_modules/.installed: crates/testkit/s3/package-lock.json crates/testkit/s3/package.json | require
	cd crates/testkit/s3 && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

examples/crm/node_modules/.installed: examples/crm/package-lock.json examples/crm/package.json | require
	cd examples/crm && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

%/node_modules/.installed: %/bun.lock %/package.json | $(RUNTIME_READY)
	scripts/install-bun-packages.sh $*
