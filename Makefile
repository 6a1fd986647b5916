# nearhit: what one types here. `make` alone says what there is.

CARGO ?= cargo
SHELL := /bin/sh
# Recipes are safe to run with nothing on stdin: none of them asks.
.DEFAULT_GOAL := help

.PHONY: help run test fmt lint doc bench bench-instructions bench-cache bench-hit-ratio load loom model mutants mutants-table mutants-live fuzz test-clients differential strangers failovers selftest selftest-modes selftest-topologies clean need-redis need-rust

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: need-redis ## a Redis primary, two replicas and nearhit on 127.0.0.1:6380, until Ctrl-C
	$(CARGO) build --release --locked --bin nearhit
	@exec "$${CARGO_TARGET_DIR:-target}/release/nearhit" sandbox

test: need-redis need-rust ## what CI runs: format, lints, all tests, documentation
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	@# Without the tests' dependencies, whose features the compiler lends to everything built beside them.
	$(CARGO) check --locked
	$(CARGO) test --locked
	@if deploy/need-clients.sh; then \
		$(CARGO) test --locked --test clients_libraries -- --include-ignored; \
	else \
		echo 'make test: the tests of client libraries did not run; make test-clients runs them' >&2; \
	fi
	$(MAKE) loom
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

fmt: need-rust ## format the code
	$(CARGO) fmt --all

lint: need-rust ## format check and lints only
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

doc: ## the library's documentation, in target/doc
	$(CARGO) doc --locked --no-deps

bench: need-redis need-rust ## the numbers of the README, with plots, in bench/results; BENCH_ARGS=--quick for a first look
	@deploy/need-bench.sh
	$(CARGO) bench --locked --bench throughput -- $(BENCH_ARGS)

bench-instructions: need-redis need-rust ## instructions of the hot paths against bench/instructions.toml; BLESS=1 writes it
	$(CARGO) bench --locked --bench instructions -- $(if $(BLESS),--bless) $(BENCH_ARGS)

bench-cache: need-rust ## lookups, fills and invalidations of the near-cache against quick_cache and moka, and the scanners
	$(CARGO) bench --locked --bench cache -- $(BENCH_ARGS)

bench-hit-ratio: need-rust ## hit ratio of each eviction policy, quick_cache and moka; TRACES=dir adds recorded traces
	$(CARGO) bench --locked --bench hit_ratio -- $(BENCH_ARGS)

loom: need-rust ## memory order of what threads share, in every order that the memory model allows
	$(CARGO) test --locked --features loom --lib coherence::tests::order

model: need-rust ## coherence under a seeded scheduler: 10,000 seeds of 6,000 steps in both modes, or SEEDS=100
	NEARHIT_SEEDS=$(or $(SEEDS),10000) $(CARGO) test --release --locked --lib coherence::tests::model -- --nocapture

mutants: need-rust ## mistakes on purpose, each of which the model must find (docs/mutants.md)
	$(CARGO) test --locked --features mutants --lib coherence::tests::model::matrix
	deploy/mutants-elsewhere.sh

mutants-table: need-rust ## the same, and writes the table of docs/mutants.md; SEEDS=100
	NEARHIT_MUTANTS_TABLE=$(or $(SEEDS),100) $(CARGO) test --locked --features mutants --lib coherence::tests::model::matrix::every

load: need-redis need-rust ## 10,000 clients, slow readers and large values: memory and latency; LOAD_ARGS=--quick for less
	$(CARGO) bench --locked --bench load -- $(LOAD_ARGS)

mutants-live: need-redis need-rust ## the same mistakes against the live checker, SECONDS=12 each, into the page's second table
	deploy/mutants-live.sh $(or $(SECONDS),12)

fuzz: ## every fuzz target for a minute each (needs a nightly compiler and cargo-fuzz); FUZZ_SECONDS=600 for longer
	@cd fuzz && for target in $$($(CARGO) fuzz list); do \
		echo "== $$target"; \
		$(CARGO) fuzz run "$$target" -- -max_total_time=$${FUZZ_SECONDS:-60} || exit 1; \
	done

test-clients: need-redis need-rust ## client libraries and applications through nearhit and without it, and a table of them
	deploy/test-clients.sh

differential: need-redis need-rust ## fresh random sequences against a redis-server, for ten minutes or SECONDS=60
	NEARHIT_DIFFERENTIAL_SECONDS=$(or $(SECONDS),600) $(CARGO) test --locked --test differential --test differential_topologies

strangers: need-redis need-rust ## sessions that come and go while others check every reply: a million, or REPLIES=5000000
	NEARHIT_REPLIES=$(or $(REPLIES),1000000) $(CARGO) test --locked --test no_reply_to_a_stranger -- --nocapture

failovers: need-redis need-rust ## masters, sentinels and clusters' nodes that die, hang and change under load, a release build: outages beside those of a direct client
	$(CARGO) test --release --locked --test failover_fixed --test failover_sentinel --test failover_cluster -- --nocapture

selftest: need-redis ## ten million checked operations against nearhit with every fault, a release build; OPERATIONS=100000000 for more
	$(CARGO) build --release --locked --bin nearhit
	@"$${CARGO_TARGET_DIR:-target}/release/nearhit" selftest --operations $(or $(OPERATIONS),10000000) $(SELFTEST_ARGS)

selftest-modes: need-redis ## the selftest in every mode of invalidation, SECONDS=30 each
	$(CARGO) build --release --locked --bin nearhit
	@for mode in tracking redirect broadcast keyspace ttl; do \
		echo "== $$mode"; \
		"$${CARGO_TARGET_DIR:-target}/release/nearhit" selftest --mode $$mode --seconds $(or $(SECONDS),30) $(SELFTEST_ARGS) || exit 1; \
	done

selftest-topologies: need-redis ## the selftest with one server, before replicas, before sentinels and before a cluster, SECONDS=60 each
	$(CARGO) build --release --locked --bin nearhit
	@for topology in single replicas 'replicas --mode off' sentinel cluster 'cluster --mode off'; do \
		echo "== $$topology"; \
		"$${CARGO_TARGET_DIR:-target}/release/nearhit" selftest --topology $$topology --seconds $(or $(SECONDS),60) $(SELFTEST_ARGS) || exit 1; \
	done

clean: ## remove what was built
	$(CARGO) clean

need-redis:
	@deploy/need-redis.sh

need-rust:
	@deploy/need-rust.sh
