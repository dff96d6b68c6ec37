"""What the attacks on the network share: servers outside that the test makes, and a product that may ask them."""

import outside
import product
import pytest


@pytest.fixture(scope="module")
def lab():
    with outside.lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def server(lab):
    with product.Server(outside.calm() + f"network:\n  resolvers: [{outside.RESOLVER}]\n") as s:
        yield s
