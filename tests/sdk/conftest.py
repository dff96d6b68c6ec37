"""The Python client from its sources, and one sandbox for the tests of a file."""

import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "sdk" / "python" / "src"))

import caged as sdk  # noqa: E402


@pytest.fixture(scope="module")
def client(server):
    with sdk.Caged(server.key, server.url) as c:
        yield c


@pytest.fixture(scope="module")
def box(client):
    """A running sandbox's id."""
    made = client.sandboxes.create("minimal", memory_mb=256, disk_gb=1)
    yield made.id
    client.sandboxes.destroy(made.id)
