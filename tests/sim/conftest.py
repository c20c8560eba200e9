"""The simulator is no package of the product: made importable for the tests here."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
