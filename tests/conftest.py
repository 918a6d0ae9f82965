"""Settings of every test: helper modules (real test servers) on the path, one thread per process, Ctrl-C as usual."""

import os
import signal
import sys
import threading
from pathlib import Path

# Tests share the cores; results that must agree bit for bit are compared at equal thread counts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

sys.path.insert(0, str(Path(__file__).parent))

# A shell's background job inherits Ctrl-C ignored, and hands that on to the processes whose interruption is tested.
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
