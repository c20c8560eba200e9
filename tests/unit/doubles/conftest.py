"""The doubles lie beside the tests and are no package of the product: make them importable here."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "doubles"))
