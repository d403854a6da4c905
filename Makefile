# One verb each. Every verb sets up what it needs: the first one takes a minute, the next ones seconds.

BIN := .venv/bin
READY := .venv/.stamp
GRANIAN := .venv-granian-2.3.1
SERVERS := .venv-servers
# Fuzzes for so many seconds in all cores. WSLIFECYCLE_FUZZ_DATABASE=redis://HOST:PORT/DB shares what is found with other
# machines; the other settings are in tests/stateful/campaign.py.
FUZZ = WSLIFECYCLE_FUZZ_SECONDS=$(1) $(BIN)/pytest -q -n auto -o faulthandler_timeout=$$(($(1) + 600)) $(CAMPAIGN)
OWN := python -m wslifecycle.conformance.kit.own {app} --port {port}
CAMPAIGN := tests/stateful/test_campaign.py

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-granian diagram check-diagrams check spin mutants cover test fuzz fuzz-long fuzz-bytes faults \
	conformance profiles pairs autobahn stress stress-all soak test-all test-oldest style types bench bench-readme \
	bench-model instructions clean

help: ## list these verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv and install what every other verb needs

$(READY): pyproject.toml .ci/setup
	@sh .ci/setup

demo: $(READY) ## watch conversations through Uvicorn, each with its way through the lifecycle
	$(BIN)/wslifecycle demo

demo-granian: $(GRANIAN)/bin/granian ## see one of them fail on Granian 2.3.1, in an environment made for it
	$(BIN)/wslifecycle demo --granian $(GRANIAN)/bin

$(GRANIAN)/bin/granian: | $(READY)
	$(BIN)/python -m venv --clear $(GRANIAN)
	$(GRANIAN)/bin/python -m pip install --quiet --disable-pip-version-check granian==2.3.1
	@touch $@

diagram: $(READY) ## draw every picture in diagrams/ again
	$(BIN)/wslifecycle draw --all diagrams

check-diagrams: $(READY) ## fail where diagrams/ is not what spec/ says
	$(BIN)/wslifecycle draw --all diagrams --check

check: $(READY) ## check the lifecycle: every property, in every order of events
	$(BIN)/wslifecycle check

spin: $(READY) ## check it with SPIN as well, and compare the two engines
	$(BIN)/wslifecycle spin

mutants: $(READY) ## change the spec in every way that one might get wrong: is it noticed? (SAMPLE=100: about so many)
	$(BIN)/wslifecycle mutants $(if $(SAMPLE),--sample $(SAMPLE))

cover: $(READY) ## try every event in every state, on a Connection and over sockets, and draw what was tried
	WSLIFECYCLE_COVER=build/cover $(BIN)/pytest tests/test_cover_ways.py
	$(BIN)/wslifecycle cover --from build/cover -o build/cover/coverage.svg

test: $(READY) ## run the tests on all cores, with asyncio in debug mode
	PYTHONASYNCIODEBUG=1 $(BIN)/pytest -n auto --dist loadgroup

fuzz: $(READY) ## visit every situation of our runtime, then fuzz it for 90 seconds: any app, any peer, in any order
	$(BIN)/pytest -q tests/stateful/sweep.py
	$(call FUZZ,90)

fuzz-long: $(READY) ## fuzz it for as long as you like, and see how far it is (MINUTES=60)
	$(call FUZZ,$$((60 * $(or $(MINUTES),60))))

fuzz-bytes: $(READY) ## send it any bytes, for a request and for frames (MINUTES=1)
	WSLIFECYCLE_BYTES_SECONDS=$$(expr 60 \* $(or $(MINUTES),1) / 4) $(BIN)/pytest -q -n auto -o faulthandler_timeout=3600 tests/bytes

faults: $(READY) ## plant 67 faults in our runtime, one by one: does the fuzzer find them, and in how few acts? (15 min)
	$(BIN)/python -m tests.stateful.hunt

test-all: ## run the tests on each supported Python that is here
	sh .ci/test-all

test-oldest: ## run those of the runtime with the oldest releases of what it needs
	sh .ci/test-oldest

style: $(READY) ## check the style: ruff's rules and its formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(READY) ## check the types: mypy --strict on the package, then on what uses it
	$(BIN)/mypy -p wslifecycle
	$(BIN)/mypy tests benchmarks

conformance: $(READY) ## hold our runtime, in its three ways in, and the Uvicorn that is here against the spec
	$(BIN)/wslifecycle conformance wslifecycle --html build/conformance/own.html
	$(BIN)/wslifecycle conformance uvicorn:websockets-sansio --html build/conformance/uvicorn.html || test $$? -eq 1

profiles: $(SERVERS)/bin/granian ## measure the newest releases of all servers, and write spec/profiles (8 min)
	@mkdir -p build/conformance
	$(BIN)/python -m wslifecycle.conformance.kit.releases $(SERVERS)/bin spec/profiles > build/conformance/all.json
	$(BIN)/wslifecycle conformance --from build/conformance/all.json --html build/conformance/all.html || test $$? -eq 1

$(SERVERS)/bin/granian: | $(READY)
	$(BIN)/python -m venv --clear $(SERVERS)
	$(SERVERS)/bin/python -m pip install --quiet --disable-pip-version-check daphne granian gunicorn hypercorn \
		httptools uvicorn uvloop websockets wsproto
	@touch $@

pairs: $(READY) ## measure the kit on 38 real bugs, each in a release that has it and one that has not (an hour; goes on)
	$(BIN)/wslifecycle pairs

autobahn: $(READY) ## run the Autobahn cases against our runtime, in its three ways in and with each codec (3 min)
	$(BIN)/wslifecycle autobahn wslifecycle --part more
	$(BIN)/wslifecycle autobahn --command '$(OWN) --codec python' --command '$(OWN) --codec wsproto'

stress: $(READY) ## try to break our runtime: load, faults, bad input, hostile peers, each against a bound (3 min)
	@mkdir -p build/stress
	$(BIN)/wslifecycle stress wslifecycle:start_server --json build/stress/own.json
	$(BIN)/wslifecycle stress wslifecycle:httptools --skip head --skip slow-request --json build/stress/uvicorn.json

stress-all: $(SERVERS)/bin/granian ## the same with the newest releases of all servers; writes the table in the README (15 min)
	$(BIN)/python benchmarks/stress.py $(SERVERS)/bin

soak: $(READY) ## have visitors come and go, and draw what our runtime takes, into build/soak.png (MINUTES=10)
	$(BIN)/wslifecycle soak wslifecycle:start_server --minutes $(or $(MINUTES),10) -o build/soak.png

bench: $(SERVERS)/bin/granian ## measure our runtime beside other servers (QUICK=1: minutes; else an hour)
	$(BIN)/python -m benchmarks.speed --bin $(SERVERS)/bin --json build/bench.json --png build/bench.png $(if $(QUICK),--quick)

bench-readme: $(SERVERS)/bin/granian ## the same, kept in benchmarks/speed.json and .png; writes the table in the README (an hour)
	$(BIN)/python -m benchmarks.speed --bin $(SERVERS)/bin --json benchmarks/speed.json --png benchmarks/speed.png
	$(BIN)/python -m benchmarks.speed.readme

instructions: $(READY) ## count the instructions of an echo, and those of the machine in it, by valgrind (3 min)
	$(BIN)/python benchmarks/instructions.py --keep

bench-model: $(READY) ## measure a consultation of the machine, a check of it, a search for orders, a run of the kit (8 min)
	for script in consult check orders kit; do $(BIN)/python benchmarks/$$script.py || exit; done

clean: ## remove everything that these verbs made, except diagrams/
	rm -rf .venv .venv-* build dist src/*.egg-info .*_cache .hypothesis .coverage* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
