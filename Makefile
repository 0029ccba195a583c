# Two commands matter: `make up` and `make test`. Both install what is missing first.
SHELL := /bin/sh
ROOT := $(CURDIR)
export PATH := $(ROOT)/node_modules/.bin:$(PATH)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

UNIT := test/config test/compress test/transcode test/oracle test/base test/receive test/screen \
        test/operate test/metrics test/tidy.test.ts
INTEGRATION := test/admit test/app test/attack test/topology test/redis test/queue test/clickhouse test/write test/migrate test/embedded test/bench test/process test/points test/chaos

.PHONY: up test test-unit test-integration test-chaos coverage lint bench install redis farm build clean

up: install build
	@[ -n "$$SLUICE_REDIS_URL" ] || $(MAKE) --no-print-directory redis
	@exec bin/sluice up

test: install build redis farm
	@tsc --noEmit -p . && exec node scripts/test.ts

test-unit: install build
	@exec node scripts/test.ts $(UNIT)

test-integration: install build redis farm
	@exec node scripts/test.ts $(INTEGRATION)

# The short form; with ARGS storms as long as you like: `make test-chaos ARGS="--help"`.
test-chaos: install build redis farm
	@if [ -n "$(ARGS)" ]; then exec node --disable-warning=ExperimentalWarning scripts/chaos.ts $(ARGS); \
	else exec node scripts/test.ts test/process/kill.test.ts test/chaos; fi

coverage: install build redis farm
	@exec node scripts/test.ts --coverage

lint: install
	@tsc --noEmit -p . && biome lint --error-on-warnings src test bench scripts

# Measures against a running `make up`; `make bench ARGS="--help"` shows what can be asked.
bench: install build
	@exec node bench/main.ts $(ARGS)

# Not `npm ci`: it refuses a lock file whose optional packages for other platforms are not to be had.
install: node_modules/.installed
node_modules/.installed: package.json package-lock.json
	@echo "installing npm packages (once, about 1.2 GB with the embedded ClickHouse)"
	@npm install --no-save --no-progress --loglevel=error
	@touch $@

build: build/transcode.wasm
build/transcode.wasm: node_modules/.installed scripts/build-wasm.ts $(wildcard src/transcode/*.ts)
	@npm run --silent build
	@touch $@

redis:
	@command -v redis-server >/dev/null || { \
	  echo "installing redis-server from the distribution"; \
	  $(SUDO) apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends redis-server >/dev/null; } || { \
	  echo "redis-server could not be installed: install it by hand, or give SLUICE_REDIS_URL"; exit 1; }

# An old ClickHouse and a ZooKeeper from the distribution: the cluster that tests of replication start for
# themselves. The service that the package may have started is none of ours and is switched off again.
farm:
	@[ -x /usr/sbin/clickhouse-server ] && [ -d /etc/zookeeper/conf_example ] || { \
	  echo "installing clickhouse-server and zookeeper from the distribution, for tests"; \
	  $(SUDO) apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends \
	    clickhouse-server zookeeper >/dev/null && \
	  { [ ! -d /run/systemd/system ] || $(SUDO) systemctl disable --now --quiet clickhouse-server; }; } || { \
	  echo "clickhouse-server and zookeeper could not be installed: the tests of replication need them"; exit 1; }

clean:
	rm -rf build coverage
