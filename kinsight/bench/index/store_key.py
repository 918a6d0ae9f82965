"""Short names for settings."""

import hashlib
import json
from typing import Any


def key_of(settings: Any) -> str:
    """A name of 12 letters; the same for the same settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
