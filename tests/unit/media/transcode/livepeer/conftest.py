"""What the tests of offloading share is made importable here."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
