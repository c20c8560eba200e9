"""A network of three nodes, one of which chooses."""

import sys
from pathlib import Path

import pytest

# Not a package of the product: made importable for the tests here.
sys.path.append(str(Path(__file__).parent))

from steering_world import World, three_nodes


@pytest.fixture
def world() -> World:
    """See `three_nodes`."""
    return three_nodes()
