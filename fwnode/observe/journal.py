"""The log lines of a node's life: streams, publishers, connections that end badly. Pure."""

from typing import Any

import structlog

from media.deliver.http.errors import BadRequest
from media.ingest.diagnosis.log import FindingsLog
from media.ingest.gate import PublishRequest
from media.net.address import format_address
from media.track.registry import Streams
from media.track.stream import Source, StreamState

LEVELS = {"remote": "warning", "stall": "info", "overflow": "warning", "accept": "error"}


class Journal:
    """Listener of the stream registry and of the reactor's faults."""

    def __init__(self, streams: Streams) -> None:
        self._log: Any = structlog.get_logger()
        self._streams = streams
        self._known: dict[str, tuple[StreamState, Source | None]] = {}
        self._findings: dict[str, FindingsLog] = {}

    def stream_changed(self, name: str, now: float) -> None:
        """A stream appeared, changed state or publisher, or went."""
        stream = self._streams.get(name)
        if stream is None:
            self._known.pop(name, None)
            self._findings.pop(name, None)
            return
        news = (stream.state, stream.source)
        if self._known.get(name) == news:
            return
        self._known[name] = news
        source = stream.source
        about = {"protocol": source.protocol, "peer": source.peer, "key_id": source.key_id} if source else {}
        self._log.info(f"stream {stream.state.value}", stream=name, **about)

    def publisher_left(self, name: str, source: Source, reason: str) -> None:
        """A publisher went, by itself or because somebody ended it."""
        self._log.info(
            "publisher left", stream=name, protocol=source.protocol, peer=source.peer, reason=reason
        )

    def publisher_refused(self, request: PublishRequest, reason: str) -> None:
        """Somebody was not let publish. The name that they gave may be a key: it is not told."""
        peer = format_address(request.peer_host, request.peer_port)
        self._log.warning("publisher refused", protocol=request.protocol, peer=peer, reason=reason)

    def poster_failed(self, stream: str, reason: str) -> None:
        """A stream's poster could not be made."""
        self._log.warning("poster not made", stream=stream, reason=reason)

    def transcoder_lost(self, stream: str, reason: str) -> None:
        """The worker that makes a stream's renditions is gone; another one is started."""
        self._log.warning("transcoding worker lost", stream=stream, reason=reason)

    def request_refused(self, peer: str, fault: BadRequest) -> None:
        """Bytes that are no request, too much of one, or one that never ended."""
        log_refused_request(peer, fault)

    def report_findings(self, now: float) -> None:
        """What began or ceased to hurt viewers since the call before; call every few seconds."""
        for stream in self._streams:
            news = self._findings.setdefault(stream.name, FindingsLog())
            for finding, appeared in news.changes(stream.statistics(now).findings, now):
                about = {"stream": stream.name, "code": finding.code, "finding": finding.message}
                if appeared:
                    self._log.info("finding", **about, severity=finding.severity.value, fix=finding.fix)
                else:
                    self._log.info("finding cleared", **about)


def log_refused_request(peer: str, fault: BadRequest) -> None:
    """A request that no handler saw."""
    log: Any = structlog.get_logger()
    log.warning("request refused", peer=peer, status=fault.status, reason=str(fault))


def log_fault(kind: str, error: Exception, peer: str) -> None:
    """What the reactor reports of one connection; a bug comes with its traceback."""
    log: Any = structlog.get_logger()
    level = LEVELS.get(kind, "error")
    traceback = error if level == "error" and kind != "accept" else None
    getattr(log, level)(f"connection fault: {kind}", peer=peer, reason=str(error), exc_info=traceback)
