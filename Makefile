# The front door. `make` alone says what there is.
#
# Every target but `help` and `clean` first looks (a few milliseconds) whether what it needs is
# installed, and calls `deps` only when something is missing. Nothing here is needed to use cargo
# directly.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# To build: DPDK with its headers, and what binds to it.
BUILD_PACKAGES := libdpdk-dev libclang-dev pkg-config gcc libc6-dev make dpkg-dev
# To test: real servers, clients and instruments. `prometheus` brings promtool.
TEST_PACKAGES := nginx-light haproxy curl wrk iproute2 ethtool nftables procps socat \
  bind9-dnsutils iperf3 dpdk-dev ipvsadm iputils-ping iputils-tracepath tcpdump prometheus valgrind openssl \
  chromium
PACKAGES := $(BUILD_PACKAGES) $(TEST_PACKAGES)

# What needs root is run as root; building never is, unless all of make runs as root.
ifneq ($(shell id -u),0)
AS_ROOT := sudo --preserve-env
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER := $(AS_ROOT)
endif

# Where cargo builds.
TARGET := $(or $(CARGO_TARGET_DIR),target)

SECONDS_EACH ?= 60
SEEDS ?= 100000

.PHONY: help deps need-tools need-root build share package demo test test-long lint bench fuzz fmt clean

help: ## Say what there is (needs no deps)
	@echo "Shunt: a layer-4 load balancer on DPDK. Targets:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Names of the packages that are not installed.
define MISSING_PACKAGES
for package in $(PACKAGES); do \
  dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q '^install ok installed$$' \
    || printf '%s ' $$package; \
done
endef

deps: ## Install what Debian has to provide and cargo-nextest (needs root; safe to repeat)
	@missing=$$($(MISSING_PACKAGES)); \
	if [ -n "$$missing" ]; then \
	  echo "deps: this changes the machine, as root: apt-get installs $$missing"; \
	  if [ "$$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then \
	    echo "deps: not root and no sudo; run as root: apt-get install $$missing" >&2; exit 1; fi; \
	  $(QUIET_DAEMONS) \
	  $(AS_ROOT) apt-get update; \
	  $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive \
	    apt-get install --yes --no-install-recommends $$missing; \
	  for unit in nginx haproxy prometheus; do case " $$missing" in *" $$unit"*) \
	    $(AS_ROOT) systemctl disable --quiet $$unit 2>/dev/null || true;; esac; done; \
	fi
	@if ! command -v cargo >/dev/null; then \
	  echo "deps: no Rust toolchain; install one (1.90 or later) from https://rustup.rs" >&2; exit 1; fi
	@if ! cargo nextest --version >/dev/null 2>&1; then \
	  echo "deps: cargo installs cargo-nextest for this user (a few minutes)"; \
	  cargo install --locked cargo-nextest; \
	fi
	@echo "deps: everything is installed"

# Debian starts a daemon when its package is installed. The lab starts its own nginx and HAProxy, and wants
# promtool of prometheus: so the packages must not start theirs, now or at the next boot. A policy of the
# machine's own is left alone, and so is what was there before.
define QUIET_DAEMONS
policy=/usr/sbin/policy-rc.d; \
if [ ! -e $$policy ]; then \
  echo "deps: no daemon of these packages is started ($$policy for the time being)"; \
  printf '#!/bin/sh\nexit 101\n' | $(AS_ROOT) tee $$policy >/dev/null; \
  $(AS_ROOT) chmod 755 $$policy; \
  trap '$(AS_ROOT) rm -f /usr/sbin/policy-rc.d' EXIT; \
fi;
endef

# Quiet when nothing is missing.
need-tools:
	@missing=$$($(MISSING_PACKAGES)); \
	if [ -n "$$missing" ] || ! command -v cargo >/dev/null || ! cargo nextest --version >/dev/null 2>&1; \
	then $(MAKE) deps; fi

need-root:
	@if [ "$$(id -u)" != 0 ]; then \
	  command -v sudo >/dev/null || { echo "make: needs root, and there is no sudo" >&2; exit 1; }; \
	  echo "make: network namespaces need root: sudo may ask for your password"; sudo --validate; fi

build: need-tools ## Build everything, optimised: target/release/{shuntd,shunt,shunt-bench}
	cargo build --release --workspace --bins

share: build ## Man pages and shell completion, made by shunt itself: target/share
	rm -rf $(TARGET)/share && mkdir -p $(TARGET)/share/completion
	$(TARGET)/release/shunt man --dir $(TARGET)/share/man
	for shell in bash zsh fish; do \
	  $(TARGET)/release/shunt completion $$shell > $(TARGET)/share/completion/shunt.$$shell; \
	  $(TARGET)/release/shunt completion $$shell --daemon > $(TARGET)/share/completion/shuntd.$$shell; \
	done

package: build ## A Debian package of it: target/package/shunt_*.deb
	packaging/build $(TARGET)/release $(TARGET)/package

demo: need-tools need-root ## Balance real traffic between network namespaces (needs root; two minutes)
	cargo build --release --workspace --bins
	@echo "demo: makes network namespaces named shunt-lab-*, and removes them again"
	@$(AS_ROOT) $(TARGET)/release/demo

# Doc tests before nextest, so that the runner's summary is the last thing printed. `--workspace`
# also builds the `lab` program, which the end-to-end tests start beside shuntd.
test: need-tools need-root ## Formatting, lints, every test (needs root: network namespaces)
	@echo "test: the end-to-end tests make network namespaces named shunt-lab-*, and remove them again;"
	@echo "test: one reserves up to 320 MB of huge pages (vm.nr_hugepages), and gives them back"
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --quiet --package shunt --package lab --doc
	cargo build --release --quiet --example instructions
	cargo nextest run --workspace

test-long: need-tools ## Simulate whole connections, SEEDS=100000 runs (`make test` has 2,400 of them)
	SHUNT_SIM_SEEDS=$(SEEDS) cargo nextest run --profile long --test sim

lint: need-tools ## Formatting, clippy, rustdoc; licences and advisories if cargo-deny is installed
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items \
	  --exclude dpdk-sys
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check; \
	else echo "lint: cargo-deny is not installed, deny.toml was not checked"; fi

bench: need-tools ## Measure all that has a bar, write the table into docs/performance.md
	cargo build --release --bin shunt-bench
	$(TARGET)/release/shunt-bench standard --write docs/performance.md

fuzz: need-tools ## Random input to parse, rewrite and whole workers, SECONDS_EACH=60 for each target
	BOLERO_RANDOM_TEST_TIME_MS=$$(( $(SECONDS_EACH) * 1000 )) \
	  cargo test --package shunt --test 'fuzz*'

fmt: need-tools ## Format the code
	cargo fmt --all

clean: ## Remove what was built, and what killed test runs left behind (needs no deps)
	@for lab in $(TARGET)/release/lab $(TARGET)/debug/lab; do \
	  if [ -x $$lab ]; then $(AS_ROOT) $$lab clean; break; fi; done
	cargo clean
