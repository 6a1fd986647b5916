# nearhit: what one types here. `make` alone says what there is.

CARGO ?= cargo
SHELL := /bin/sh
# Recipes are safe to run with nothing on stdin: none of them asks.
.DEFAULT_GOAL := help

.PHONY: help run test fmt lint doc bench fuzz test-clients clean need-redis need-rust

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: need-redis ## a Redis primary, two replicas and nearhit on 127.0.0.1:6380, until Ctrl-C
	$(CARGO) build --release --locked --bin nearhit
	@exec "$${CARGO_TARGET_DIR:-target}/release/nearhit" sandbox

test: need-redis need-rust ## what CI runs: format, lints, all tests, documentation
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked
	@if deploy/need-clients.sh; then \
		$(CARGO) test --locked --test clients_libraries -- --include-ignored; \
	else \
		echo 'make test: the tests of client libraries did not run; make test-clients runs them' >&2; \
	fi
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

fmt: need-rust ## format the code
	$(CARGO) fmt --all

lint: need-rust ## format check and lints only
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

doc: ## the library's documentation, in target/doc
	$(CARGO) doc --locked --no-deps

bench: need-redis need-rust ## the numbers of the README; BENCH_ARGS=--quick for a first look
	$(CARGO) bench --locked --bench throughput -- $(BENCH_ARGS)

fuzz: ## every fuzz target for a minute each (needs a nightly compiler and cargo-fuzz); FUZZ_SECONDS=600 for longer
	@cd fuzz && for target in $$($(CARGO) fuzz list); do \
		echo "== $$target"; \
		$(CARGO) fuzz run "$$target" -- -max_total_time=$${FUZZ_SECONDS:-60} || exit 1; \
	done

test-clients: need-redis ## the client libraries of other languages against nearhit
	deploy/need-clients.sh
	$(CARGO) test --locked --test 'clients*' -- --include-ignored

clean: ## remove what was built
	$(CARGO) clean

need-redis:
	@deploy/need-redis.sh

need-rust:
	@deploy/need-rust.sh
