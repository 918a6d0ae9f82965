"""Settings of every test: plain helper modules (real test servers) on the path, one thread per process."""

import os
import sys
from pathlib import Path

# Tests share the cores; results that must agree bit for bit are compared at equal thread counts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

sys.path.insert(0, str(Path(__file__).parent))
