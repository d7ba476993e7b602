# `make demo`, `make check` and `make test` do all the set-up they need, in .venv/. ARGS goes to the command:
# make test ARGS="-k plan". Three files of tests run at a time, since some wait a lot; ARGS="-n 0" runs them one after another.
PYTHON ?= python3
BIN := .venv/bin
BROKER := tests/broker
PYTEST := $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: demo check test cluster lint format docs lock bench clean

demo: .venv/.demo
	@$(BIN)/penstock demo $(ARGS)

# The quick check, in a minute or so: no broker, no PyTorch, no network once it is set up.
check: .venv/.check lint
	@$(PYTEST) -m "not broker and not torch" tests/unit tests/contracts $(ARGS)

test: .venv/.dev broker registry helm kubernetes
	@$(PYTEST) -rs $(ARGS)

# A cluster of its own, with what takes minutes, too; as root, on Linux.
cluster: .venv/.dev broker helm kubernetes
	@sh tests/cluster/fetch.sh keda
	@PENSTOCK_TEST_ALL=1 $(PYTEST) -n 0 -rs tests/cluster $(ARGS)

lint: .venv/.check
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: .venv/.check
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# What is made of the code: the reference, and the chart's README and schema.
docs: .venv/.check
	@$(BIN)/python docs/generate.py
	@$(BIN)/python helm/generate.py

bench: .venv/.dev broker
	@$(BIN)/python benchmarks/pipeline.py $(ARGS)
	@$(BIN)/python benchmarks/models.py $(ARGS)
	@$(BIN)/python benchmarks/rerank.py $(ARGS)

# What a lock file installs; dev holds all that check does, and check all that demo does.
.venv/.demo .venv/.check .venv/.dev: .venv/.%: requirements/%.txt pyproject.toml
	@PYTHON=$(PYTHON) sh requirements/install.sh $*

# A missing broker is no error here: the tests say what they skip, and in CI they fail.
.PHONY: broker registry helm kubernetes
broker:
	@sh $(BROKER)/fetch.sh

registry:
	@sh tests/registry/fetch.sh

helm:
	@sh tests/helm/fetch.sh

kubernetes:
	@sh tests/cluster/fetch.sh

# Each lock holds for Python 3.11 to 3.13 and names hashes, no addresses.
LOCK := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml
lock: .venv/.dev
	@$(LOCK) --extra cpu --extra export --extra optimum --extra evaluate --extra fetch --extra mcp --extra msk --extra otel --extra registry --extra stem --extra train --group dev -o requirements/dev.txt
	@$(LOCK) --extra cpu --extra export --extra evaluate --extra fetch --extra mcp --extra msk --extra otel --extra registry --extra stem --group check -c requirements/dev.txt -o requirements/check.txt
	@$(LOCK) --extra cpu --extra evaluate --group build -c requirements/dev.txt -o requirements/demo.txt
	@$(LOCK) --extra cpu --extra export --extra optimum --extra evaluate -c requirements/dev.txt -o requirements/optimum.txt
	@$(LOCK) --extra cpu --extra export --extra evaluate --extra train -c requirements/dev.txt -o requirements/train.txt
	@$(LOCK) --extra cpu --extra export --extra evaluate -c requirements/dev.txt -o requirements/export.txt
	@$(LOCK) --extra cpu --extra evaluate --extra fetch --extra mcp --extra msk --extra otel --extra registry --extra stem -c requirements/dev.txt -o requirements/cpu.txt
	@$(LOCK) --extra cuda --extra evaluate --extra fetch --extra mcp --extra msk --extra otel --extra registry --extra stem -o requirements/cuda.txt
	@$(subst pyproject.toml,--group pyproject.toml:image,$(LOCK)) -c requirements/dev.txt -o requirements/image.txt
	@$(subst pyproject.toml,--group pyproject.toml:clients,$(LOCK)) -o requirements/clients.txt

clean:
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis $(BROKER)/lib tests/registry/lib
