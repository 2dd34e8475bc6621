# One command each: `make help`. Every target sets up what it needs on a fresh Debian 12 with Python 3.11, Rust and
# Node 20, and does nothing twice: what was built is a file (or a stamp), older sources leave it alone.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON  ?= python3.11
VENV    := .venv
PY      := $(VENV)/bin/python
ENGINE  := d4e_sfu/engine
WEB     := d4e_sfu/web
PROOFS  := build/proofs
SHORT   := not long and not boot and not appliance
ANSIBLE := build/ansible
# The engine in the tree also carries the laboratory peer, which tests drive from Python; the wheel has none of it.
FEATURES := python,peer
CARGO   := cargo --locked --quiet
MANIFEST := --manifest-path $(ENGINE)/Cargo.toml
# Everything below is quiet about what went well and keeps pip away from a newer pip's advertisement.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_QUIET := 1
export PYTHONDONTWRITEBYTECODE := 1

RUST_SOURCES := $(shell find $(ENGINE)/src -name '*.rs') $(wildcard $(ENGINE)/build.rs) $(ENGINE)/Cargo.toml $(ENGINE)/Cargo.lock
PAGE_SOURCES := $(shell find $(WEB) \( -name node_modules -o -name dist \) -prune -o -type f -print)

##@ Use

.PHONY: help
help:  ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: $(VENV)/.runtime engine page  ## build everything, start a server and print links to join it
	$(PY) config/development.py

.PHONY: wheel
wheel: $(VENV)/.runtime page  ## dist/*.whl: Python, the compiled engine and the built page
	rm -rf dist
	$(VENV)/bin/maturin build --release --locked --interpreter $(PY) --out dist

.PHONY: bundle
bundle: wheel  ## dist/d4e-sfu-VERSION.tar: everything that an installation without the internet needs, signed
	@for tool in apt-ftparchive:apt-utils gpg:gnupg ssh-keygen:openssh-client; do \
	  command -v $${tool%%:*} >/dev/null || { \
	    if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq --no-install-recommends $${tool#*:}; \
	    else echo "$${tool%%:*} is missing: sudo apt-get install $${tool#*:}"; exit 1; fi; }; done
	$(PY) ansible/bundle.py --wheel dist/*.whl

##@ Prove

.PHONY: test
test: $(VENV)/.dev engine page peer chromium firefox guest c++ $(ANSIBLE)/newest/.ready  ## the short form of every test: Rust, page, Python, browsers
	@mkdir -p $(PROOFS) && rm -f $(PROOFS)/*
	@# The last two are not timed, and each keeps one core busy.
	outcome=0; $(MAKE) --no-print-directory --keep-going test-rust test-page test-python || outcome=$$?; \
	  $(MAKE) --no-print-directory --keep-going --jobs=2 --output-sync=target test-boot test-fuzz || outcome=$$?; exit $$outcome

.PHONY: test-long
test-long: $(VENV)/.dev engine page peer chromium firefox go-client $(ANSIBLE)/newest/.ready  ## what takes longer; its outcome is kept in benchmarks/results/
	@mkdir -p $(PROOFS)
	outcome=0; $(PY) -m pytest -m "(long or boot) and not appliance" --junitxml=$(PROOFS)/pytest-long.xml --durations=10 || outcome=$$?; \
	  $(PY) -m tests.long_results $(PROOFS)/pytest-long.xml; exit $$outcome

.PHONY: test-appliance
test-appliance: $(VENV)/.dev bundle $(ANSIBLE)/newest/.ready $(ANSIBLE)/oldest/.ready nspawn pebble  ## install, upgrade, restore and remove it on a Debian that is booted for it (root, minutes)
	@mkdir -p $(PROOFS)
	outcome=0; $(PY) -m pytest -m appliance tests/appliance --junitxml=$(PROOFS)/pytest-appliance.xml --durations=0 || outcome=$$?; \
	  $(PY) -m tests.long_results $(PROOFS)/pytest-appliance.xml; \
	  $(PY) -m tests.appliance.tally $(PROOFS)/pytest-appliance.xml; exit $$outcome

.PHONY: fuzz
fuzz: $(VENV)/.dev engine c++  ## fuzz every target in turn until interrupted; what is found stays in build/fuzz/
	$(PY) -m tests.fuzz --forever

.PHONY: bench
bench: $(VENV)/.dev engine page peer chromium  ## measure every figure; rows go to benchmarks/results/
	$(PY) -m benchmarks
	$(PY) .ci/figures.py

.PHONY: matrix
matrix: $(VENV)/.dev engine page peer chromium  ## measure what a call survives: weak links, crowds, liars (an hour)
	$(PY) -m benchmarks.matrix

.PHONY: acceptance
acceptance: $(VENV)/.dev  ## what is promised, what is proved and by what; fails on a promise without its proof
	$(PY) -m tests.acceptance

.PHONY: lint
lint: $(VENV)/.dev $(WEB)/node_modules/.ready $(ENGINE)/Cargo.lock $(ANSIBLE)/newest/.ready  ## formats and static checks of all three languages
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	cargo fmt --check $(MANIFEST)
	$(CARGO) clippy $(MANIFEST) --all-targets --features python -- -D warnings
	$(CARGO) clippy $(MANIFEST) --all-targets --features peer -- -D warnings
	cd $(WEB) && npm run --silent check
	cd ansible && PATH="$(CURDIR)/$(ANSIBLE)/newest/bin:$$PATH" ansible-lint -q

##@ Parts

.PHONY: test-rust
test-rust:  ## the tests of the engine and of the laboratory peer (lint builds the engine without it)
	@mkdir -p $(PROOFS)
	cargo test --locked $(MANIFEST) --features peer 2>&1 | tee $(PROOFS)/cargo-peer.txt

.PHONY: test-page
test-page: $(WEB)/node_modules/.ready  ## types and unit tests of the page
	@mkdir -p $(PROOFS)
	cd $(WEB) && npm run --silent check && npm test --silent -- --reporter=default --reporter=junit --outputFile.junit=$(CURDIR)/$(PROOFS)/page.xml

.PHONY: test-python
test-python: $(VENV)/.dev engine page peer firefox promtool $(ANSIBLE)/newest/.ready  ## the Python tests that are not long, browsers included
	@mkdir -p $(PROOFS)
	@# Browsers mostly wait, so what needs none runs beside them; what it has to say comes in one piece.
	outcome=0; $(MAKE) --no-print-directory --keep-going --jobs=2 test-browser test-plain || outcome=$$?; exit $$outcome

.PHONY: test-browser
test-browser:  ## those of them that need a browser
	$(PY) -m pytest -m "$(SHORT) and browser" --junitxml=$(PROOFS)/pytest-browser.xml --durations=15

.PHONY: test-plain
test-plain:  ## those that need none
	outcome=0; $(PY) -m pytest -m "$(SHORT) and not browser" --junitxml=$(PROOFS)/pytest.xml --durations=5 > $(PROOFS)/plain.txt 2>&1 || outcome=$$?; \
	  cat $(PROOFS)/plain.txt; exit $$outcome

.PHONY: test-boot
test-boot: $(VENV)/.dev engine page $(ANSIBLE)/newest/.ready guest  ## the appliance's short form: boot a machine of this one's root, install on it, try its walls
	@mkdir -p $(PROOFS)
	outcome=0; $(PY) -m pytest -m "boot and not long" tests/boot --junitxml=$(PROOFS)/pytest-boot.xml --durations=5 || outcome=$$?; \
	  $(PY) -m tests.appliance.tally $(PROOFS)/pytest-boot.xml; exit $$outcome

.PHONY: test-fuzz
test-fuzz: $(VENV)/.dev engine c++  ## every fuzz target, a minute for all of them, from the committed corpus
	$(PY) -m tests.fuzz --seconds 60 --proof $(PROOFS)/pytest-fuzz.xml

.PHONY: engine
engine: d4e_sfu/_engine.abi3.so  ## compile the engine into the tree, in release mode

.PHONY: peer
peer: $(ENGINE)/target/release/d4e-peer  ## compile the laboratory peer: load generator, probe, hostile client

.PHONY: page
page: $(WEB)/dist/index.html  ## build the room page

.PHONY: format
format: $(VENV)/.dev  ## let ruff and rustfmt lay out the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .
	cargo fmt $(MANIFEST)

.PHONY: lock
lock: $(VENV)/.dev  ## pin newer versions: requirements/*.txt, Cargo.lock, package-lock.json, THIRD_PARTY.md
	$(PY) -m pip install --quiet pip-tools
	cd requirements && for name in runtime:../pyproject.toml build:build.in dev:dev.in installer:installer.in ansible:ansible.in \
	  ansible-oldest:ansible-oldest.in; do \
	  ../$(VENV)/bin/pip-compile --quiet --upgrade --generate-hashes --strip-extras --no-header --allow-unsafe \
	    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host -o $${name%%:*}.txt $${name#*:}; done
	cargo update --quiet $(MANIFEST)
	cd $(WEB) && npm update --silent --no-audit --no-fund
	$(MAKE) --no-print-directory notices

.PHONY: notices
notices: $(VENV)/.dev  ## write THIRD_PARTY.md: the licences of what is compiled into the engine
	$(PY) .ci/notices.py > THIRD_PARTY.md.new && mv THIRD_PARTY.md.new THIRD_PARTY.md

.PHONY: codecs
codecs: $(VENV)/.dev engine chromium  ## ask real clients which codecs they decode of each other, for the README
	$(PY) -m tests.lab.matrix

.PHONY: clients
clients: $(VENV)/.dev engine page chromium firefox go-client  ## ask each client for each thing that it should do, for the README
	@mkdir -p $(PROOFS)
	outcome=0; $(PY) -m pytest tests/e2e/test_clients.py --junitxml=$(PROOFS)/pytest-clients.xml || outcome=$$?; \
	  $(PY) -m tests.long_results $(PROOFS)/pytest-clients.xml; $(PY) -m tests.lab.clients $(PROOFS)/pytest-clients.xml; exit $$outcome

.PHONY: figures
figures: $(VENV)/.dev  ## put the measured figures into the README
	$(PY) .ci/figures.py

.PHONY: reference
reference: $(VENV)/.runtime  ## write docs/*/configuration.md: every setting, from the models
	PYTHONPATH=. $(PY) .ci/reference.py

.PHONY: clean
clean:  ## remove what was built (not certs/)
	rm -rf build dist $(WEB)/dist $(WEB)/node_modules $(ENGINE)/target d4e_sfu/_engine.abi3.so $(VENV)

# What the targets above lean on.

$(PY):
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is missing: apt-get install python3.11 python3.11-venv"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq python3.11-venv; \
	  else echo "Python's venv module is missing: sudo apt-get install python3.11-venv"; exit 1; fi; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements/runtime.txt requirements/build.txt | $(PY)
	$(PY) -m pip install --quiet --require-hashes -r requirements/runtime.txt -r requirements/build.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	$(PY) -m pip install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

d4e_sfu/_engine.abi3.so: $(RUST_SOURCES) pyproject.toml $(VENV)/.runtime
	@command -v cargo >/dev/null || { echo "Rust is missing: install a stable toolchain, 1.85 or newer, with rustup"; exit 1; }
	@command -v cc >/dev/null || { echo "A C compiler is missing: apt-get install build-essential cmake"; exit 1; }
	$(VENV)/bin/maturin develop --quiet --release --locked --features $(FEATURES)
	@touch $@

$(ENGINE)/target/release/d4e-peer: $(RUST_SOURCES)
	$(CARGO) build $(MANIFEST) --release --features peer --bin d4e-peer
	@touch $@

$(WEB)/node_modules/.ready: $(WEB)/package-lock.json
	@node -e 'process.exit(+(parseInt(process.versions.node) < 20))' 2>/dev/null || { echo "Node 20 or newer is missing"; exit 1; }
	cd $(WEB) && npm ci --silent --no-audit --no-fund
	@touch $@

$(WEB)/dist/index.html: $(PAGE_SOURCES) $(WEB)/node_modules/.ready
	cd $(WEB) && npm run --silent build
	@touch $@

# Ansible at both ends of what the roles are held to: `newest` with its linter, `oldest` as Debian 12 has it.
$(ANSIBLE)/newest/.ready: requirements/ansible.txt | $(PY)
	$(PYTHON) -m venv $(@D) && $(@D)/bin/pip install --quiet --require-hashes -r $< && touch $@

$(ANSIBLE)/oldest/.ready: requirements/ansible-oldest.txt | $(PY)
	$(PYTHON) -m venv $(@D) && $(@D)/bin/pip install --quiet --require-hashes -r $< && touch $@

# Debian's, without Debian's service: a folder of this tree is all that it gets.
.PHONY: promtool
promtool: build/tools/promtool  ## keep Debian's promtool in build/tools, for the tests of rules and alerts

build/tools/promtool:
	@mkdir -p build/tools/deb && cd build/tools/deb && rm -f *.deb && \
	  { apt-get download -qq prometheus 2>/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get download -qq prometheus 2>/dev/null; } \
	    || { echo "apt-get cannot download prometheus: sudo apt-get update"; exit 1; }; } && \
	  dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xO ./usr/bin/promtool > ../promtool.new && \
	  chmod +x ../promtool.new && mv ../promtool.new ../promtool && rm -r ../deb

# The SDK for Go as a participant; without Go there is none, and the tests that need it are not run.
.PHONY: go-client
go-client:  ## build the participant on the SDK for Go, if Go is there
	@if command -v go >/dev/null; then mkdir -p build/tools && cd tests/go && go build -trimpath -o ../../build/tools/go-client .; \
	  else echo "Go is not here: no go-client"; fi

# Let's Encrypt's test server and its name server: how certificates come by ACME is tried against them. Go's checksum
# database vouches for what is downloaded.
PEBBLE := v2.10.3
.PHONY: pebble
pebble: build/tools/pebble  ## build the ACME server that the appliance's tests ask for certificates

build/tools/pebble:
	@command -v go >/dev/null || { echo "Go is missing, and the ACME test server is written in it: install Go 1.24 or newer"; exit 1; }
	GOBIN=$(CURDIR)/build/tools GOFLAGS=-trimpath go install \
	  github.com/letsencrypt/pebble/v2/cmd/pebble@$(PEBBLE) github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv@$(PEBBLE)

# Where nobody may install what boots a machine, the tests that need one are skipped, and say why.
.PHONY: guest
guest:
	@for tool in systemd-nspawn nft ip ps curl; do command -v $$tool >/dev/null || missing=1; done; \
	  if [ "$${missing:-}" ] && [ "$$(id -u)" = 0 ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	    --no-install-recommends systemd-container nftables iproute2 procps curl || echo "No machine is booted: apt-get did not install systemd-container"; fi

.PHONY: nspawn
nspawn:
	@command -v systemd-nspawn >/dev/null && command -v debootstrap >/dev/null && command -v nft >/dev/null || { \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	    --no-install-recommends systemd-container debootstrap nftables iproute2 openssh-client; \
	  else echo "This test boots a machine, which only root may: sudo make test-appliance"; exit 1; fi; }

.PHONY: chromium
chromium:
	@command -v chromium >/dev/null || { \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-dejavu-core; \
	  else echo "Chromium is missing, and browser tests need it: sudo apt-get install chromium"; exit 1; fi; }

.PHONY: firefox
firefox:
	@command -v firefox-esr >/dev/null && command -v ip >/dev/null || { \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends firefox-esr iproute2; \
	  else echo "Firefox is missing, and tests need it: sudo apt-get install firefox-esr iproute2"; exit 1; fi; }

.PHONY: c++
c++:
	@command -v c++ >/dev/null || { \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq g++; \
	  else echo "A C++ compiler is missing, and fuzzing needs it: sudo apt-get install g++"; exit 1; fi; }
