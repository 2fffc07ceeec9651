# Everything runs from .venv, which the targets make themselves. `make help` lists them.

PYTHON3 ?= $(shell command -v python3.11 || command -v python3)
UV ?= uv
PORT ?= 8000
ONCE ?=

VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip --disable-pip-version-check --no-input --quiet
# Tests wait for servers about as long as they compute: four of them keep two cores busy.
WORKERS ?= 4
# Where the environment says that Python shall keep no compiled modules, each of the many Pythons of a run, and pytest in
# each of its workers, would compile every module anew: seconds of each.
unexport PYTHONDONTWRITEBYTECODE
# What `check --deploy` judges: settings as in production, with secrets made for this one run.
DEPLOY = SECRET_KEY=$$($(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(50))') \
	SEAL_KEYS=$$($(PYTHON) -c 'import base64, secrets; print(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())') \
	PUBLIC_URL=https://localhost DATABASE_URL=sqlite:///:memory: EMAIL_HOST=mail.example.com \
	TRUST_FORWARDED_PROTO=true TRUSTED_PROXIES=127.0.0.1 ENV_FILE=/dev/null

.DEFAULT_GOAL := help
.PHONY: help setup up demo test suite smoke faults load neighbours conformance check format bench lock clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1|/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null || grep '## ' $(MAKEFILE_LIST)

setup: $(VENV)/dev.stamp ## Make .venv with everything that runs and tests the product

up: $(VENV)/runtime.stamp ## Start the product: web, workers, beat, SQLite and Valkey (PORT=8000)
	@$(PYTHON) manage.py up --port $(PORT)

demo: $(VENV)/runtime.stamp ## Start it with demo data and two sample MCP servers; ONCE=1 checks each step and ends
	@$(PYTHON) manage.py demo $(if $(ONCE),--once,--port $(PORT))

test: $(VENV)/dev.stamp ## Run all tests on PostgreSQL and Valkey, then the smoke tests on SQLite
	@$(MAKE) --no-print-directory suite
	@$(MAKE) --no-print-directory smoke

suite: $(VENV)/dev.stamp ## Run all tests on PostgreSQL and Valkey
	$(PYTHON) -m pytest -n $(WORKERS) --durations=10

smoke: $(VENV)/dev.stamp ## Run the smoke tests on SQLite
	DATABASE_URL=sqlite:///$(CURDIR)/.cache/smoke.sqlite3 $(PYTHON) -m pytest -m smoke \
		$$(grep -rl 'pytest\.mark\.smoke' tests --include='test_*.py') # to read all others takes a quarter of its time

faults: $(VENV)/dev.stamp ## Break processes, broker, database, server and caller in the middle of calls, and count
	@$(PYTHON) -m pytest -m faults -n 0 tests/faults

load: $(VENV)/dev.stamp ## 1,000 calls in flight, 1,000 waiting callers, 10,000 queued calls while workers are killed
	@$(PYTHON) -m tests.load

neighbours: $(VENV)/dev.stamp ## Attack the product as a rival and as strangers, and measure an organization beside it
	@$(PYTHON) -m tests.neighbours

.PHONY: scale
scale: $(VENV)/dev.stamp ## Measure pages, API and housekeeping with 10,000 connections and 1,000,000 calls (CALLS=200000)
	@$(PYTHON) -m tests.scale $(if $(CALLS),--calls $(CALLS))

conformance: $(VENV)/dev.stamp ## Judge the running product by the official MCP conformance suite (downloads it once)
	@$(PYTHON) -m tests.conformance

.PHONY: deployed
deployed: $(VENV)/dev.stamp ## Play an operator's day under 20 callers: upgrade, new keys, deaths, restore (QUICK=1 a minute)
	@$(PYTHON) -m tests.deployed $(if $(QUICK),--quick)

.PHONY: sessions
sessions: $(VENV)/dev.stamp ## Use the real Browser, Playwright's MCP server from npm, through the running product (QUICK=1)
	@$(PYTHON) -m tests.sessions $(if $(QUICK),--quick)

.PHONY: screenshots
screenshots: $(VENV)/dev.stamp ## Take the pictures of README anew (needs Chromium)
	@SCREENSHOTS=1 $(PYTHON) -m pytest -q tests/browser/test_connection.py tests/browser/test_start_page.py \
		tests/browser/test_inbox.py -k "adds_a_connection or with_trouble or is_compact"

check: $(VENV)/dev.stamp ## Lint, types, the rooms' order, templates, migrations, deploy settings
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	@echo mypy && $(DEPLOY) $(VENV)/bin/mypy .
	$(VENV)/bin/lint-imports
	find templates -name '*.html' -print0 | xargs -0 -r $(VENV)/bin/djade --check --target-version 5.2
	find duvo connections oauth tools -name '*.py' -print0 | xargs -0 $(VENV)/bin/django-upgrade --check --target-version 5.2
	@$(DEPLOY) $(PYTHON) manage.py makemigrations --check --dry-run
	@$(DEPLOY) $(PYTHON) manage.py check --deploy --fail-level WARNING

format: $(VENV)/dev.stamp ## Put code and templates into the project's format
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format
	find templates -name '*.html' -print0 | xargs -0 -r $(VENV)/bin/djade --target-version 5.2

bench: $(VENV)/dev.stamp ## Measure the call path on PostgreSQL; the last line is JSON
	@$(PYTHON) -m tests.bench

lock: ## Pin the newest allowed versions anew (needs uv)
	$(UV) lock --upgrade
	$(UV) export --quiet --frozen --format requirements.txt --no-emit-project --no-annotate --no-header --no-dev -o requirements.txt
	$(UV) export --quiet --frozen --format requirements.txt --no-emit-project --no-annotate --no-header -o requirements-dev.txt

clean: ## Remove .venv and caches; var/ with its data stays
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache staticfiles

$(VENV)/runtime.stamp: requirements.txt
	@$(call install,$<)

$(VENV)/dev.stamp: requirements-dev.txt
	@$(call install,$<)
	@touch $(VENV)/runtime.stamp

define install
echo "Installing $(1) into $(VENV)"
test -x $(PYTHON) && $(PYTHON) -m pip --version >/dev/null 2>&1 || $(PYTHON3) -m venv $(VENV) || \
	{ echo "Python 3.11 with venv is needed; on Debian: apt-get install python3.11-venv"; exit 1; }
$(PIP) install --require-hashes -r $(1)
touch $@
endef
