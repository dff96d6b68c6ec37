"""Fixtures that every test may use. Tests run with Debian's python3 (see `make test`)."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent / "lib"))

import product  # noqa: E402


@pytest.fixture(scope="module")
def server():
    """One running server for the tests of a file."""
    with product.Server() as s:
        yield s


@pytest.fixture
def sandbox(server):
    """A running `minimal` sandbox, destroyed afterwards."""
    s = server.create(memory_mb=256, disk_gb=1)
    yield s
    try:
        s.destroy()
    except product.Refused as gone:
        assert gone.status == 404
