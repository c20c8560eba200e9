"""What the owner promised in the settings. Pure."""

import fnmatch

import msgspec

from fwnode.config import Config
from fwnode.promise.hours import Hours, parse_hours
from fwnode.setting import split_patterns

BITS_PER_MBIT = 1_000_000
BYTES_PER_GB = 1_000_000_000


class Terms(msgspec.Struct, frozen=True):
    """The settings; 0 and None: no limit."""

    budget_bps: int = 0
    month_bytes: int = 0
    quiet: Hours | None = None
    quiet_budget_bps: int = 0  # 0: as ever
    streams: tuple[str, ...] = ()  # patterns of other nodes' streams that are served; none: all

    def allows(self, stream: str) -> bool:
        """Whether another node's stream is served here."""
        return not self.streams or any(fnmatch.fnmatchcase(stream, pattern) for pattern in self.streams)


def terms_of(config: Config) -> Terms:
    """What the settings say."""
    promise = config.promise
    return Terms(
        budget_bps=round(config.uplink_mbps * BITS_PER_MBIT),
        month_bytes=round(promise.monthly_gb * BYTES_PER_GB),
        quiet=parse_hours(promise.quiet),
        quiet_budget_bps=round(promise.quiet_mbps * BITS_PER_MBIT),
        streams=split_patterns(promise.streams),
    )
