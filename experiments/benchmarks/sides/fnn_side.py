"""The workloads in fnn, as `fnn bench` runs them; on a mesh where there are several devices."""

from functools import partial

import jax

import fnn
from fnn.run._workloads import WORKLOADS

MESH = fnn.mesh() if len(jax.devices()) > 1 else None
PREPARE = {name: partial(workload.prepare, MESH) for name, workload in WORKLOADS.items()}
VERSIONS = {"fnn": fnn.__version__, "jax": jax.__version__, "devices": len(jax.devices())}
