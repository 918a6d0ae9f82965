import sys
from pathlib import Path

# The helper that starts ranks stands beside the tests of `kinsight.parallel`.
sys.path.append(str(Path(__file__).resolve().parents[1] / "parallel"))
