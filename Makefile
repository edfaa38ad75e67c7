# What a developer does daily. `make help` lists it.

# Which manager the demo reads from: kubernetes or vault.
STORE ?= kubernetes
# A context of the kubeconfig to run the demo on, instead of a local cluster.
DEMO_CONTEXT ?=

ifneq ($(DEMO_CONTEXT),)
demo_peers := kubectl
else
demo_peers := etcd,kube-apiserver,kube-controller-manager,kube-scheduler,kubectl
endif
ifeq ($(STORE),vault)
demo_peers := $(demo_peers),bao
endif

# What cannot work is said before anything is built.
ifneq ($(filter demo,$(MAKECMDGOALS)),)
ifeq ($(filter kubernetes vault,$(STORE)),)
$(error STORE=$(STORE) is not known: write STORE=kubernetes or STORE=vault)
endif
ifneq ($(origin DEMO_CONTEXT),file)
ifeq ($(strip $(DEMO_CONTEXT)),)
$(error DEMO_CONTEXT is empty: name a context of your kubeconfig, or leave it out)
endif
ifeq ($(STORE),vault)
$(error STORE=vault starts an OpenBao that only the demo's own cluster can reach: leave out DEMO_CONTEXT)
endif
endif
endif

.DEFAULT_GOAL := help
.PHONY: help peers demo test bench rotations faults memory lint fmt doc crds chart manifests reference fuzz clean

help: ## List these
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

peers: ## Build or install the real programs that tests run against
	@tests/peers/install

demo: ## The main job, narrated (STORE=vault; DEMO_CONTEXT=name for a cluster of yours)
	@tests/peers/install --only $(demo_peers)
	@cargo build --package botsecret --bin botsecret --package botsecret-testbed --bins
	@exec $(or $(CARGO_TARGET_DIR),target)/debug/demo --store $(STORE) $(if $(DEMO_CONTEXT),--context "$(DEMO_CONTEXT)")

test: peers ## Every test, against the real programs
	@cargo test --workspace --no-fail-fast

bench: peers ## Time and cost of 1,000 BotSecrets; figures also in target/bench/sync.json
	@cargo bench --bench sync

rotations: peers ## 100 rotations under bots that ask PostgreSQL all the time; figures in target/bench/rotations.json
	@cargo build --release --package botsecret-testbed --bin testbed-database-bot
	@cargo bench --bench rotations

faults: peers ## Something goes wrong at every single write, in virtual time and for real; figures in target/faults.json
	@rm -f $(or $(CARGO_TARGET_DIR),target)/faults.json
	@cargo test --release --test faults -- --include-ignored --skip one_case --nocapture --test-threads 1
	@cargo test --release --test model -- --include-ignored --nocapture --test-threads 1
	@cargo test --test faults_real -- --ignored --skip one_case --nocapture --test-threads 1

memory: peers ## What cores and the memory of the program as it is shipped hold: no value that is retired
	@cargo test --release --test e2e memory:: -- --nocapture

fuzz: ## Every decoder on any bytes, by libFuzzer (FUZZ_RUNS, FUZZ_SECONDS, FUZZ_TARGET); figures in target/fuzz.json
	@fuzz/run

lint: ## Formatting, clippy with warnings denied, licences and sources
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --all-features -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check licenses bans sources; else \
		echo "cargo-deny is not installed: licences were not checked"; fi

fmt: ## Format everything
	@cargo fmt --all

doc: ## The library's documentation, warnings denied
	@RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

crds: ## Make crds/ and those of the charts anew from the types; then `make manifests`
	@cargo run -q --package botsecret --bin botsecret -- crds --dir crds
	@for chart in botsecret botsecret-crds; do cp crds/*.yaml "charts/$$chart/files/crds/"; done

chart: peers ## Make the schema, the README and the definitions of the charts anew
	@UPDATE_CHART=1 cargo test --quiet --test chart generated::

manifests: peers ## Make deploy/ anew from the chart
	@HELM="$$(tests/peers/install --print-bin)/helm" deploy/render

reference: ## Make docs/reference anew from the types and the commands
	@UPDATE_DOCS=1 cargo test --quiet --test docs generated::

clean: ## Remove what was built here (the programs of `make peers` stay)
	@cargo clean
