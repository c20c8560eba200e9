"""The parts that make renditions, for those who show or report them. Pure."""

from dataclasses import dataclass

from fwnode.transcoding.broker import Broker
from fwnode.transcoding.ledger import Ledger
from media.transcode.transcoder import Transcoder


@dataclass(frozen=True, slots=True)
class Transcoding:
    """What follows the streams, what says who may, and what was made."""

    transcoder: Transcoder
    broker: Broker
    ledger: Ledger
