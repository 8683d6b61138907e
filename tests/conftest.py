"""Settings of every test: no silent broadcasting, several virtual CPU devices, products of full precision."""

import jax
import pytest

from fnn.ops import _conv

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
ON_CPU = jax.default_backend() == "cpu"
if not ON_CPU:  # a GPU's TF32 and a TPU's bfloat16 keep three digits of a float32 product
    jax.config.update("jax_default_matmul_precision", "highest")


def pytest_collection_modifyitems(items):
    """On an accelerator, skip what is true of CPU alone and what needs more devices than there are."""
    for item in items:
        if item.get_closest_marker("cpu") and not ON_CPU:
            item.add_marker(pytest.mark.skip(reason="it is true of CPU alone"))
        if item.get_closest_marker("devices") and jax.device_count() < 4:
            item.add_marker(pytest.mark.skip(reason="it needs four devices"))


@pytest.fixture
def retraced():
    """Convolutions are traced anew in this test and after it, for one that changes how they are lowered."""
    _conv._on_any_platform.clear_cache()
    yield
    _conv._on_any_platform.clear_cache()
