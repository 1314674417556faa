.PHONY: help run test test-long test-hostile test-faults test-pythons bench fix lint coverage mutate lock binary build audit

help: ## Say what each target does
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 15

run: ## Install what is needed and start the clinic on http://127.0.0.1:8000
	scripts/run

test: ## Install what is needed, check the code and run all tests
	scripts/test

test-long: ## Run the tests that take too long for every day
	scripts/test-long

test-hostile: ## Attack the clinic over HTTP and messages, through proxies and a browser
	scripts/test-hostile

test-faults: ## Let every part of the clinic fail, and check that nothing confirmed was lost
	scripts/test-faults

test-pythons: ## Try every supported Python that this machine has or can get
	scripts/test-pythons

bench: ## Measure the clinic beside its peers and limits; takes ten minutes
	scripts/bench

fix: ## Format the code, and fix what can be fixed without a person
	scripts/fix

lint: ## Check format, style, types and the floors of the house
	scripts/lint

coverage: ## Measure which branches the everyday tests take
	scripts/coverage

mutate: ## Change the core in small ways, and see whether the tests notice
	scripts/mutate

audit: ## Check the locked dependencies against known vulnerabilities
	scripts/audit

lock: ## Lock the newest versions of the dependencies, by version and hash
	scripts/lock

binary: ## Make one executable of the clinic that needs no Python
	scripts/binary

build: ## Make all that is released, in dist/: sdist, wheel, executable, SBOM, checksums
	scripts/build
