"""The processes of the rows about the mesh, as the rows use them."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from fwbench.loads import READY_S, Load, LoadError
from fwbench.machine import Program
from fwbench.network.specs import Spec

_ENTRY = Path(__file__).resolve().parents[1] / "side.py"


class Side(Load):
    """One process, ready when the constructor returns; `ready` has what it said then."""

    def __init__(self, spec: Spec, core: int, folder: Path) -> None:
        self._kind = type(spec).__name__.removesuffix("Spec").lower()
        command = [sys.executable, str(_ENTRY), self._kind, json.dumps(asdict(spec))]
        self.program = Program(command, core, log=folder / f"{self._kind}.log", pipes=True)
        try:
            self.ready = self._answer(READY_S)
        except LoadError:
            self.program.stop()
            raise

    @property
    def port(self) -> int:
        return int(self.ready["port"])
