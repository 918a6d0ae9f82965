"""Puts the plain helper modules of this folder (real test servers) on the path of every test."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
