"""Settings of every test: no silent broadcasting, several virtual CPU devices."""

import jax

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
