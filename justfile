# Everything but `full` and the benches is what CI runs.

# lint, types, import contracts, generated pages, tests
ci:
    .ci/run

# format and mend what can be mended
fix:
    uv run ruff format .
    uv run ruff check --fix .
    uv run python -m kinsight.specs.reference

# the tests CI runs
test *ARGS:
    uv run pytest {{ARGS}}

# all tests, slow sweeps included
full:
    uv run pytest -m "slow or not slow"

# the reference of every setting, from specs/
reference:
    uv run python -m kinsight.specs.reference

# the measurements of docs/log.md that need no options
bench:
    OMP_WAIT_POLICY=PASSIVE uv run kinsight bench evaluate
    OMP_WAIT_POLICY=PASSIVE uv run kinsight bench train
