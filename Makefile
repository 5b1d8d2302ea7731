# Every target does what it needs first: on a bare Debian 12, `make staleness` or `make test` is all there is to type.
# Real packets need root, so those parts go through sudo when you are not root.

VENV := $(or $(NETKV_VENV),.venv)
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)
ARGS ?=
# The tests of other people's routers and engines, once `make routers` has begun to install these.
ROUTER_TESTS = $(if $(wildcard $(VENV)/.netkv-routers),tests/optional/routers)
# Routers behind HTTP in sandboxes of their own: no packet is timed and most of their time is waiting, so six at a time.
HTTP_TESTS = $(addsuffix /test_http_routers.py,$(ROUTER_TESTS))
SLOWEST := --durations=25 --durations-min=0.5

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-tests setup-vm routers staleness test lint test-fast test-live test-vm test-vagrant vm-results bench fuzz chaos kill docs kick-the-tires committed artifact clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

setup: ## install everything: Debian packages, then .venv with netkv in it
	@./provision.sh

setup-vm: ## the same, with what building and booting the virtual machine needs
	@./provision.sh --vm

setup-tests: ## the same, with what only the tests need
	@./provision.sh --tests

routers: ## other people's routers and KV transfer engines, which some policies and engines need (600 MB)
	@./provision.sh --routers

staleness: setup ## the main job: does stale telemetry hurt? on real packets (ARGS='...' adds flags)
	$(SUDO) "$(VENV)/bin/netkv" sweep staleness --profile quick $(ARGS)

# In this order, each only if the one before held; pytest's exit 5 (no test ran) is a failure here too.
test: setup-tests lint test-fast test-live ## lint, then the fast tests, then those on real packets

lint: setup ## ruff and mypy
	"$(VENV)/bin/ruff" check .
	"$(VENV)/bin/ruff" format --check .
	"$(VENV)/bin/mypy"

# They start Python some hundred times: without kept bytecode each would compile our modules anew. One worker more than
# there are processors, because many of them wait: 187 s instead of 214 to 251 on two.
test-fast: export PYTHONDONTWRITEBYTECODE :=
test-fast: setup-tests ## the tests that need no root, on all processors (ARGS='...' adds pytest's flags)
	"$(VENV)/bin/pytest" tests/unit tests/cli $(ROUTER_TESTS) -m 'not live' -n "$$(($$(nproc) + 1))" --dist loadgroup $(SLOWEST) $(ARGS)

test-live: setup-tests ## the tests on real packets (ARGS='...' adds pytest's flags)
	$(SUDO) "$(VENV)/bin/pytest" tests/live $(ROUTER_TESTS) $(addprefix --ignore=,$(HTTP_TESTS)) -m 'live and not untimed' $(SLOWEST) $(ARGS)
	$(SUDO) "$(VENV)/bin/pytest" tests/live -m 'live and untimed' -n 3 --dist loadfile $(SLOWEST) $(ARGS)
	$(if $(HTTP_TESTS),$(SUDO) "$(VENV)/bin/pytest" $(HTTP_TESTS) -m live -n 6 $(ARGS))
	$(SUDO) "$(VENV)/bin/pytest" tests/live/test_fabric.py --emulation datapath=user -k 'not two_machines' $(ARGS)

# A guest built from Debian's packages alone and set up by provision.sh, its processor emulated: slow, and the same anywhere.
# The guest's tree is provisioned before it boots, because an emulated processor takes half an hour for pip; with
# `make test-vm BOX=` it all happens after the boot, as in `vagrant up` with a public box.
BOX := --provisioned
test-vm: setup-vm ## the virtual machine: build it, boot it, set it up, the tests inside it on the kernel datapath
	@trap '$(SUDO) rm -rf build/vm' EXIT INT TERM; $(SUDO) vm/build_box.sh build/vm $(BOX) && "$(VENV)/bin/python" vm/smoke.py build/vm

test-vagrant: setup-vm ## the same machine through `vagrant up --provider=libvirt`, and destroyed again
	@trap '$(SUDO) rm -rf build/vm' EXIT INT TERM; $(SUDO) vm/build_box.sh build/vm $(BOX) libvirt && $(SUDO) vm/vagrant_smoke.sh build/vm

vm-results: ## copy the results out of a virtual machine that shares no folder with this one
	@vm/fetch_results.sh

bench: setup ## the benchmarks, and what got slower than the kept ratios (ARGS='...' adds pytest's flags, --keep keeps these)
	"$(VENV)/bin/pytest" tests/bench -q -s $(ARGS)

fuzz: setup-tests ## 100,000 generated cases of bad input (ARGS='--cases N --seed S')
	"$(VENV)/bin/python" -m tests.bench.fuzz $(ARGS)

chaos: setup-tests ## 200 runs in which things fail at random (ARGS='--minutes M', '--world emulated'); goes on where it was ended
	$(if $(findstring emulated,$(ARGS)),$(SUDO)) "$(VENV)/bin/python" -m tests.bench.chaos $(ARGS)

kill: setup-tests ## anything killed at 100 random moments (ARGS='--moments N --seed S')
	"$(VENV)/bin/python" -m tests.bench.kill_anything $(ARGS)

# The tools of the site have a lock and a folder of their own, so that nothing else has to fetch them.
DOCS := build/docs
$(DOCS)/tools/.installed: docs/site/requirements.lock
	rm -rf $(DOCS)/tools
	"$(VENV)/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target $(DOCS)/tools -r $<
	touch $@

docs: setup $(DOCS)/tools/.installed ## build the documentation as a site, links checked: build/docs/html/README.html
	rm -rf $(DOCS)/html $(DOCS)/doctrees
	PYTHONPATH="$(CURDIR)/$(DOCS)/tools" "$(VENV)/bin/python" docs/site/stage.py $(DOCS)/source
	PYTHONPATH="$(CURDIR)/$(DOCS)/tools" SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 0) "$(VENV)/bin/python" -m sphinx \
		--quiet --fail-on-warning --keep-going -b html -c docs/site -d $(DOCS)/doctrees $(DOCS)/source $(DOCS)/html
	@echo "the site: $(DOCS)/html/README.html"

TRIED := results/kick-the-tires
kick-the-tires: setup ## five minutes: both worlds, their records checked and compared, the main question in the fluid model
	$(SUDO) rm -rf $(TRIED)
	$(SUDO) "$(VENV)/bin/netkv" doctor
	"$(VENV)/bin/netkv" run specs/moving-hot-spots.yaml --requests 100 --out $(TRIED)/fluid
	$(SUDO) "$(VENV)/bin/netkv" run specs/moving-hot-spots.yaml --world emulated --requests 100 --out $(TRIED)/emulated
	"$(VENV)/bin/netkv" check $(TRIED)/fluid
	"$(VENV)/bin/netkv" check $(TRIED)/emulated
	"$(VENV)/bin/netkv" compare $(TRIED)/emulated
	"$(VENV)/bin/netkv" sweep staleness --world analytic --out $(TRIED)/staleness
	"$(VENV)/bin/netkv" report $(TRIED)/staleness
	@echo "kick-the-tires: all steps passed; open $(TRIED)/staleness/report.html"

committed: # before the minutes that the site takes
	@docs/artifact/pack.sh --check

artifact: committed docs ## pack the sources, the site and their digests for an artifact committee: build/artifact/netkv-artifact.tar.gz
	docs/artifact/pack.sh build/artifact $(DOCS)/html

clean: ## remove results and caches (.venv stays)
	$(SUDO) rm -rf results .pytest_cache .mypy_cache .ruff_cache .hypothesis build
	find . -path ./.venv -prune -o -name __pycache__ -prune -exec $(SUDO) rm -rf {} +
