import jax
import pytest


@pytest.fixture
def x64():
    """Float64 for this test alone, so that an oracle can ask for nine digits."""
    with jax.enable_x64(True):
        yield
