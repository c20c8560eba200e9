"""The parts that make renditions, for those who show or report them. Pure."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fwnode.transcoding.ledger import Ledger
from media.transcode.transcoder import Transcoder

if TYPE_CHECKING:
    from fwnode.transcoding.broker import Broker


@dataclass(frozen=True, slots=True)
class Transcoding:
    """What follows the streams, what says who may (None: the node makes no renditions), and what was made."""

    transcoder: Transcoder
    broker: "Broker | None"
    ledger: Ledger
