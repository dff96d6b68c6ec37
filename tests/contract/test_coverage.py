"""docs/contract-coverage.md, made of rows.yaml: each row of the contract with the tests that hold it. Every route of
api/openapi.yaml stands in a row, every test that is named is there. `make contract-coverage` writes the page anew."""

import ast
import os
import pathlib

import yaml

import product

HERE = pathlib.Path(__file__).parent
PAGE = product.ROOT / "docs" / "contract-coverage.md"
SECTIONS = yaml.safe_load((HERE / "rows.yaml").read_text())
ROWS = [row for section in SECTIONS for row in section["rows"]]


def page():
    held = sum("tests" in row for row in ROWS)
    out = ["# What of the contract is held, and by which test", "",
           "Made of `tests/contract/rows.yaml` by `make contract-coverage`; a test holds the two together, and every route of `api/openapi.yaml`",
           "against the rows. `make test-contract` runs the tests that are named here.", "",
           f"{held} of {len(ROWS)} rows have tests; the others say what is missing."]
    for section in SECTIONS:
        out += ["", f"## {section['section']}", "", "| what | routes | held by |", "| --- | --- | --- |"]
        for row in section["rows"]:
            routes = "<br>".join(f"`{r}`" for r in row.get("routes", []))
            tests = "<br>".join(f"`{t}`" for t in row.get("tests", [])) or f"**missing**: {row['missing']}"
            out.append(f"| {row['what']} | {routes} | {tests} |")
    return "\n".join(out) + "\n"


def test_every_route_stands_in_a_row_and_every_row_is_a_route():
    spec = yaml.safe_load((product.ROOT / "api" / "openapi.yaml").read_text())
    real = {f"{method.upper()} {path}" for path, item in spec["paths"].items() for method in item if method != "parameters"}
    named = [route for row in ROWS for route in row.get("routes", [])]
    assert len(named) == len(set(named)), "a route stands in two rows"
    assert set(named) == real, (sorted(real - set(named)), sorted(set(named) - real))


def test_every_test_that_is_named_is_there():
    known = {}
    for row in ROWS:
        assert ("tests" in row) != ("missing" in row), row["what"]
        for name in row.get("tests", []):
            file, _, function = name.partition("::")
            if file not in known:
                tree = ast.parse((product.ROOT / "tests" / file).read_text())
                known[file] = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
            assert function in known[file], f"{row['what']}: {name} is not there"


def test_the_page_is_the_one_made_of_the_rows():
    if os.environ.get("CAGED_WRITE"):
        PAGE.write_text(page())
    assert PAGE.exists() and PAGE.read_text() == page(), "make contract-coverage"
