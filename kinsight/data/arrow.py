"""Arrow's compute functions. They are made at import time, so type checkers don't see them: hence one untyped name."""

from typing import Any

import pyarrow.compute

pc: Any = pyarrow.compute
