"""One side of a benchmark in a process of its own: prepares work, then does it once for each line of input.

python worker.py SIDE WORKLOAD
"""

import importlib
import json
import sys
import time

side = importlib.import_module(f"sides.{sys.argv[1]}_side")
start = time.perf_counter()
run = side.PREPARE[sys.argv[2]]()
run()
print(json.dumps({"first": time.perf_counter() - start, "versions": side.VERSIONS}), flush=True)
run()
for _ in sys.stdin:
    start = time.perf_counter()
    run()
    print(json.dumps(time.perf_counter() - start), flush=True)
