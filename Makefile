# Every door of the project. The first run of a target installs what it lacks and says so.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
SYSTEM_PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
COLLECTION := .ansible/collections/ansible_collections/hostmesh/mesh
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONDONTWRITEBYTECODE := 1
unexport PYTHONPATH

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

.PHONY: prerequisites
prerequisites: ## Install what is missing: system packages, a virtual environment
	@lab/prerequisites.sh "$(SYSTEM_PYTHON)" "$(VENV)"

# The collection is this repository; Ansible looks for it by its name.
.PHONY: collection
collection:
	@mkdir -p $(dir $(COLLECTION)) && ln -sfn ../../../.. $(COLLECTION)

# What the long tests need; `make test` has seen to it before it begins with them.
PREPARATIONS := prerequisites collection

.PHONY: demo
demo: prerequisites collection ## Boot hosts, put them into the mesh, show what then holds
	@$(SYSTEM_PYTHON) -m demo

.PHONY: demo-shell
demo-shell: ## A shell in a host of the demo: make demo-shell HOST=mesh2
	@$(SYSTEM_PYTHON) -m lab exec demo $(or $(HOST),$(error name a host: make demo-shell HOST=mesh2))

.PHONY: demo-down
demo-down: ## Remove the demo without a trace
	@$(SYSTEM_PYTHON) -m lab down demo

.PHONY: fmt
fmt: ## Format the code
	ruff check --fix --select I,F401 . && ruff format .

.PHONY: check
check: ## Lint, types, direction of imports, unit tests: no root, no network
	ruff check .
	ruff format --check .
	mypy
	mypy --strict -p lab -p demo -p bench -p tools
	mypy --strict agent/hatch_build.py
	lint-imports
	pytest -q tests/unit

# What hosts run is compiled (agent/hatch_build.py): the same tests once more, of what is compiled and what it is made of.
.PHONY: compiled
compiled: ## The byte path as hosts get it, and its unit tests
	python agent/hatch_build.py .compiled
	PYTHONPATH=.compiled python -c 'from hostmesh.transport import loop; assert loop.__file__.endswith(".so"), loop.__file__'
	PYTHONPATH=.compiled pytest -q tests/unit/proxy tests/unit/wire tests/unit/transport tests/unit/rbac tests/unit/telemetry

.PHONY: netns
netns: ## Tests on the real kernel, in namespaces of their own (root)
	$(if $(wildcard tests/netns/test_*.py tests/netns/**/test_*.py),pytest -q tests/netns,@echo "no tests of this kind")

.PHONY: conformance
conformance: ## One suite for each store: files, and a real etcd of three members
	pytest -q tests/conformance

.PHONY: interop
interop: $(PREPARATIONS) ## Tests against foreign implementations: Envoy, nghttp2, curl, h2spec, OpenSSH, promtool
	@lab/h2spec.sh $(BIN)/h2spec
	@lab/promtool.sh $(BIN)/promtool
	$(if $(wildcard tests/interop/test_*.py tests/interop/**/test_*.py),pytest -q tests/interop,@echo "no tests of this kind")

.PHONY: istiod
istiod: prerequisites ## Tests against Istio's own control plane, built with Go (root, 1 minute, 15 more and Go 1.26 the first time)
	@lab/istiod.sh "$(HOME)/.cache/hostmesh/istiod"
	pytest -q tests/istiod

.PHONY: fuzz
fuzz: ## Say nonsense to every parser of what strangers send: make fuzz SECONDS=600 for each of them
	@python -m tests.fuzz $(or $(SECONDS),2)

.PHONY: e2e
e2e: $(PREPARATIONS) ## Hosts that outlive their certificates, rolled out by ansible-playbook (root, 2 minutes)
	pytest -q -s tests/e2e

.PHONY: hitless
hitless: $(PREPARATIONS) ## Each act of an operator's day under a full minute of traffic of its own (root, 15 minutes)
	HOSTMESH_PHASE_SECONDS=60 pytest -q -s tests/e2e/test_day.py

.PHONY: bench
bench: prerequisites ## Direct, Envoy and hostmesh side by side: bench/results.json (root, 6 minutes)
	@python -m bench compare

.PHONY: bench-profile
bench-profile: prerequisites ## Kernel, OpenSSL and interpreter work by work; system calls of a connection (root)
	@python -m bench profile

.PHONY: bench-scale
bench-scale: prerequisites ## A mesh of 100,000 workloads: memory, time, and whether traffic notices (root)
	@python -m bench scale

.PHONY: bench-control
bench-control: prerequisites ## 1,000 agents on one control plane: cold syncs, changes, memory: bench/control.json
	@python -m bench control

.PHONY: deb
deb: ## A Debian package in dist/ (root)
	@$(SYSTEM_PYTHON) deb/build.py

.PHONY: lint
lint: collection ## Ansible and YAML, and Ansible's own tests of collections
	yamllint .
	ansible-lint --offline
	python -m tools.sanity

# As users get it: from its tarball, without a network. The scenario `default` runs from there.
.PHONY: installed
installed:
	@rm -rf .ansible/installed .ansible/tarball
	@ansible-galaxy collection build --output-path .ansible/tarball >/dev/null
	@ANSIBLE_COLLECTIONS_PATH=.ansible/installed ansible-galaxy collection install --offline .ansible/tarball/*.tar.gz \
	  -p .ansible/installed | tail -1

SCENARIOS := $(filter-out vm distributions,$(notdir $(patsubst %/,%,$(wildcard molecule/*/))))
.PHONY: molecule
molecule: $(PREPARATIONS) installed ## Run the roles on hosts of their own: create, check, converge, idempotence, verify, destroy; SCENARIOS=units
	@for scenario in $(SCENARIOS); do NO_COLOR=1 COLUMNS=160 molecule test --scenario-name $$scenario || exit 1; done

.PHONY: molecule-vm
molecule-vm: collection ## The roles on a virtual machine with Debian's own kernel, by software emulation (root, 6 minutes)
	@command -v qemu-system-x86_64 >/dev/null || apt-get -q install -y --no-install-recommends qemu-system-x86
	NO_COLOR=1 COLUMNS=160 molecule test --scenario-name vm

.PHONY: molecule-distributions
molecule-distributions: collection ## One mesh of Debian 12 and 13, Ubuntu 22.04 and 24.04 (root, 3 minutes, 3 more the first time)
	NO_COLOR=1 COLUMNS=160 molecule test --scenario-name distributions

# Two at a time, each told of in one piece when it is done; what boots hosts and waits for them has the machine to itself.
TOGETHER := check lint compiled conformance fuzz
ALONE := netns interop e2e molecule
.PHONY: test
test: $(PREPARATIONS) ## Everything that CI runs
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target $(TOGETHER)
	@$(MAKE) --no-print-directory $(ALONE) PREPARATIONS= SCENARIOS="default network_policy netns_cni waypoint"

.PHONY: documents
documents: ## Make the tables and pictures of the documents again, from what they show
	python -m tools.role_readmes
	python -m tools.bench_chart
	$(if $(wildcard docs/images/demo.cast),python -m tools.recording)

.PHONY: recording
recording: prerequisites collection ## Record a run of the demo: docs/images/demo.svg (root, 2 minutes)
	python -m tools.recording record
	@$(MAKE) --no-print-directory demo-down

.PHONY: proto
proto: ## Generate code from proto/
	cd proto && python -m grpc_tools.protoc -I. --python_out=../agent --pyi_out=../agent hostmesh/wire/proto/*.proto
	cd proto && python -m grpc_tools.protoc -I. --grpclib_python_out=../agent \
	  $$(grep -l '^service ' hostmesh/wire/proto/*.proto)
