# `make help` says what there is. Everything else is cargo's.

CARGO ?= cargo
TARGET = $${CARGO_TARGET_DIR:-target}
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

.DEFAULT_GOAL := help
.PHONY: help demo test lint generate agent bench-replay bench-demo bench-node build-needs test-needs

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: build-needs ## Build, then play a recorded scale-up twice: waiting, and with Forelay (SCENARIO=.. picks one)
	$(CARGO) build --release --locked
	$(TARGET)/release/forelay demo $(SCENARIO)

test: build-needs test-needs ## Run all tests, against real peers where there are some
	$(CARGO) test --locked

lint: build-needs ## Check formatting, and clippy with warnings denied
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

generate: build-needs ## Write what is made from the code: references, schema, definitions
	$(CARGO) run --quiet --locked -- generate

bench-replay: build-needs ## Print the numbers of replay, forecasts and engine (PART=.. some), JSON in target/bench/replay.json
	$(CARGO) bench --locked --bench replay -- $(PART)

bench-demo: build-needs ## Print how near the demo comes to its replay on this machine, JSON in target/bench/demo.json
	$(CARGO) bench --locked --bench demo -- $(SCENARIO)

agent: build-needs ## Build the agent alone: small, stripped, static
	RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" \
		$(CARGO) build --locked --profile agent --bin forelay-agent --target $(HOST)
	@ls -l $(TARGET)/$(HOST)/agent/forelay-agent

bench-node: build-needs agent ## Print deliveries into a containerd beside its own pulls, as root (PART='quick runs=1 ..'), JSON in target/bench/node.json
	@.ci/needs containerd:containerd docker-registry:docker-registry gzip:gzip tar:tar strip:binutils \
		mkfs.ext4:e2fsprogs mount:mount nsenter:util-linux curl:curl ip:iproute2 tc:iproute2
	FORELAY_BENCH_AGENT=$(abspath $(or $(CARGO_TARGET_DIR),target))/$(HOST)/agent/forelay-agent \
		$(CARGO) bench --locked --bench node -- $(PART)

# A C compiler and make for librdkafka, aws-lc and zstd; zlib's headers for librdkafka.
build-needs:
	@.ci/needs $(CARGO):- cc:build-essential make:make pkg-config:pkg-config cmake:cmake \
		/usr/include/zlib.h:zlib1g-dev

# Programs that tests start: COMMAND:PACKAGE. tests/tidy.rs compares the list with the tests.
test-needs:
	@.ci/needs docker-registry:docker-registry skopeo:skopeo prometheus:prometheus promtool:prometheus kill:procps \
		containerd:containerd ctr:containerd busybox:busybox-static tar:tar apt-get:apt dpkg-deb:dpkg nsenter:util-linux unshare:util-linux setpriv:util-linux
