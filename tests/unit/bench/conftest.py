"""The harness lives beside the tests and is no package of the product: make it importable here."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))
