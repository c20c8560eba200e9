"""One RTMP client, publisher or player, from its first byte to its last. Pure.

RTMP 1.0 7.2; the order of commands as OBS, ffmpeg, GStreamer and librtmp send them.
"""

import functools
from collections.abc import Callable

from media.container.feed import Feed, Feeds
from media.errors import Refused, WireError
from media.ingest.gate import Gate, PlayRequest, PublishRequest
from media.ingest.rtmp.chunk import MAX_MESSAGE_BYTES
from media.ingest.rtmp.command import (
    CAPS_RECONNECT,
    Address,
    Command,
    ConnectInfo,
    address,
    connect_info,
    connected,
    failure,
    result,
    status,
)
from media.ingest.rtmp.connection import PING_REQUEST, PING_RESPONSE, STREAM_BEGIN, STREAM_EOF, Connection
from media.ingest.rtmp.handshake import Randomness, ServerHandshake
from media.ingest.rtmp.model import ArrivalJitter, Role, RtmpSettings, RtmpStatistics
from media.ingest.rtmp.playback import RtmpMuxer, RtmpViewer
from media.ingest.rtmp.publication import Publication
from media.net.transport import Transport
from media.track.stream import Stream, StreamState, Writer

MAX_STREAMS = 64  # message streams that one client may create over its life; all known ones use one
IDLE_MESSAGES = 512  # from a client that does not publish, per CHECK_S; players send a few a minute
CHECK_S = 10.0  # how often a session pings its peer and renews its budget

WaitFor = Callable[[str, Callable[[float], None]], Callable[[], None]]
"""`wait_for(stream name, callback)`: calls back once when it is live; returns what cancels that."""


class RtmpSession:
    """Implements media.net.transport.Protocol."""

    def __init__(
        self,
        transport: Transport,
        now: float,
        *,
        gate: Gate,
        settings: RtmpSettings,
        random: Randomness,
        wait_for: WaitFor,
        feeds: Feeds,
        on_closed: Callable[["RtmpSession"], None] = lambda session: None,
    ) -> None:
        self.role = Role.SETUP
        self._transport = transport
        self._gate = gate
        self._settings = settings
        self._wait_for = wait_for
        self._feeds = feeds
        self._on_closed = on_closed
        self._connection = Connection(ServerHandshake(random), self)
        self._info: ConnectInfo | None = None
        self._address: Address | None = None
        self._streams = 0  # created in all
        self._stream_id = 0  # the one that publishes or plays
        self._writer: Writer | None = None
        self._publication: Publication | None = None
        self._stream: Stream | None = None
        self._feed: Feed | None = None  # that `_viewer` follows
        self._viewer: RtmpViewer | None = None
        self._cancel_wait: Callable[[], None] | None = None
        self._reason = "the connection was lost"
        self._began = now
        self._now = now
        self._media_at = now  # when a publisher's last media came
        self._role_since = now
        self._messages_at_check = 0
        self._bytes_out = 0
        self._ping_sent: float | None = None
        self._rtt_s: float | None = None
        self._jitter = ArrivalJitter()
        self._asked = ""  # publish or play
        self._check_at = now + CHECK_S
        self._armed = now
        self._arm()

    # What the reactor calls.

    def receive(self, data: bytes, now: float) -> None:
        self._now = now
        try:
            self._connection.receive(data)
            if self._publication is not None:
                self._publication.flush(now)
            else:
                self._check_budget()
        except Refused as error:
            self._turn_away(str(error))
        except WireError as error:
            self._reason = str(error)
            if self._info is not None:
                self._report("error", "NetStream.Failed", self._reason)
            raise
        if self._jitter.pending:
            self._jitter.arrived(now)

    def receive_eof(self, now: float) -> None:
        self._now = now
        self._finish("the client closed the connection")

    def drained(self, now: float) -> None:
        self._now = now

    def on_deadline(self, now: float) -> None:
        self._now = now
        reason = self._overdue(now)
        if reason:
            self._end_overdue(reason)
            return
        if now >= self._check_at:
            self._check(now)
        self._arm()

    def closed(self, now: float) -> None:
        self._now = now
        self._leave(self._reason)
        self.role = Role.CLOSED
        self._on_closed(self)

    # What the node calls.

    def request_reconnect(self, tc_url: str, description: str) -> bool:
        """Ask the client to connect again, to `tc_url` or to where it is if that is empty.

        For a node that drains. False, and nothing sent, when the client does not know that
        request (Enhanced RTMP v2, "Reconnect Request").
        """
        if self._info is None or not self._info.caps & CAPS_RECONNECT:
            return False
        target = {"tcUrl": tc_url} if tc_url else {}
        code = "NetConnection.Connect.ReconnectRequest"
        self._connection.send_command(status("status", code, description, **target))
        return True

    def shut_down(self, description: str, now: float) -> None:
        """Tell the client that the server goes, and close."""
        self._now = now
        if self._info is not None:
            self._report("error", "NetConnection.Connect.AppShutdown", description)
        self._finish(description)

    def statistics(self, now: float) -> RtmpStatistics:
        publication = self._publication
        return RtmpStatistics(
            role=self.role,
            peer=f"{self._transport.peer_host}:{self._transport.peer_port}",
            agent=self._info.agent if self._info else "",
            stream=self._writer.stream.name if self._writer else self._asked_stream(),
            enhanced=self._info is not None and self._info.enhanced,
            age_s=round(now - self._began, 3),
            bytes_in=self._connection.bytes_in,
            bytes_out=self._bytes_out + (self._viewer.bytes if self._viewer else 0),
            messages_in=self._connection.messages,
            chunk_bytes_in=self._connection.reader.chunk_bytes,
            rtt_ms=None if self._rtt_s is None else round(self._rtt_s * 1000, 1),
            jitter_ms=round(self._jitter.ms, 1) if publication else None,
            publication=publication.statistics if publication else None,
        )

    # What the connection calls (its Handler).

    def send(self, data: bytes) -> None:
        self._bytes_out += len(data)
        self._transport.send(data)

    def on_command(self, command: Command) -> None:
        if self._info is None and command.name != "connect":
            raise WireError(f"RTMP command {command.name[:64]!r} before connect")
        handle = _COMMANDS.get(command.name)
        if handle is not None:
            handle(self, command)
        elif command.transaction and command.name not in ("_result", "_error"):
            self._connection.send_command(failure(command, f"there is no command {command.name[:64]}"))

    def on_media(self, kind: int, stream_id: int, timestamp: int, payload: bytes) -> None:
        # Some hardware encoders use stream 0. Others are of a publication that has ended.
        if self._publication is not None and stream_id in (self._stream_id, 0):
            self._media_at = self._now
            self._jitter.pending = True
            self._jitter.timestamp = timestamp
            self._publication.on_media(kind, timestamp, payload, self._now)

    def on_data(self, stream_id: int, payload: bytes) -> None:
        if self._publication is not None and stream_id in (self._stream_id, 0):
            self._publication.on_data(payload)

    def on_user_control(self, event: int, payload: bytes) -> None:
        if event == PING_RESPONSE and self._ping_sent is not None:
            self._rtt_s = self._now - self._ping_sent
            self._ping_sent = None

    # Commands of a connection.

    def _connect(self, command: Command) -> None:
        if self._info is not None:
            raise WireError("RTMP connect twice")
        self._info = connect_info(command)
        self._connection.announce()
        self._connection.send_command(connected(command, self._info))

    def _ignore(self, command: Command) -> None:
        """Live has no position, and pauses by not being read."""

    def _acknowledge(self, command: Command) -> None:
        if command.transaction:
            self._connection.send_command(result(command, None, None))

    def _create_stream(self, command: Command) -> None:
        if self._streams >= MAX_STREAMS:
            self._connection.send_command(failure(command, f"at most {MAX_STREAMS} streams on a connection"))
            return
        self._streams += 1
        self._connection.send_command(result(command, None, float(self._streams)))

    def _stream_length(self, command: Command) -> None:
        if command.transaction:
            self._connection.send_command(result(command, None, 0.0))  # live: no length

    def _delete_stream(self, command: Command) -> None:
        if command.number(0) == self._stream_id:
            self._end_stream("the client ended the stream")

    def _close_stream(self, command: Command) -> None:
        if command.stream_id == self._stream_id:
            self._end_stream("the client ended the stream")

    def _unpublish(self, command: Command) -> None:
        self._acknowledge(command)
        if self.role is Role.PUBLISH:
            self._report("status", "NetStream.Unpublish.Success", "Publishing has ended.")
            self._end_stream("the client ended the stream")

    def _end_stream(self, reason: str) -> None:
        """Back to a connection that does nothing, and may begin anew."""
        self._leave(reason)
        self._stream_id = 0
        self._enter(Role.SETUP)

    # Publishing.

    def _publish(self, command: Command) -> None:
        wanted = self._begin(command)
        if wanted is None:
            return
        transport = self._transport
        request = PublishRequest(
            "rtmp", wanted.stream, wanted.key, transport.peer_host, transport.peer_port, self._agent()
        )
        self._writer = self._gate.publish(request, self._on_stop, self._now)
        self._publication = Publication(self._writer)
        self._media_at = self._now
        self._connection.reader.message_limit = MAX_MESSAGE_BYTES
        self._enter(Role.PUBLISH)
        self._connection.user_control(STREAM_BEGIN, self._stream_id)
        self._report("status", "NetStream.Publish.Start", "Publishing has begun.")

    def _begin(self, command: Command) -> Address | None:
        """Common to publish and play; None when the client does one of them already."""
        if self.role is not Role.SETUP:
            bad = "NetStream.Publish.BadName" if command.name == "publish" else "NetStream.Play.Failed"
            text = f"this connection has a {self.role} already"
            self._connection.send_command(status("error", bad, text), command.stream_id)
            return None
        assert self._info is not None
        self._stream_id = command.stream_id
        self._address = address(command.text(0), self._info)
        self._asked = command.name
        return self._address

    def _on_stop(self, reason: str) -> None:
        """The writer was taken over or kicked."""
        self._writer = None
        self._report("error", "NetStream.Publish.Denied", reason)
        self._finish(reason)

    # Playing.

    def _play(self, command: Command) -> None:
        if self._begin(command) is None:
            return
        stream = self._lookup()
        if stream is not None:
            self._start_playing(stream)
            return
        self._enter(Role.WAIT)
        self._cancel_wait = self._wait_for(self._asked_stream(), self._on_appeared)

    def _lookup(self) -> Stream | None:
        assert self._address is not None
        transport = self._transport
        request = PlayRequest(
            "rtmp", self._address.stream, self._address.token,
            transport.peer_host, transport.peer_port, self._agent(),
        )  # fmt: skip
        stream = self._gate.play(request, self._now)
        return None if stream is None or stream.state is StreamState.ENDED else stream

    def _on_appeared(self, now: float) -> None:
        self._now = now
        self._cancel_wait = None
        try:
            stream = self._lookup()
            if stream is not None:
                self._start_playing(stream)
            else:
                self._cancel_wait = self._wait_for(self._asked_stream(), self._on_appeared)
        except Refused as error:
            self._turn_away(str(error))

    def _start_playing(self, stream: Stream) -> None:
        assert self._info is not None
        self._stream = stream
        self._enter(Role.PLAY)
        stream.viewer_came("rtmp")
        self._connection.user_control(STREAM_BEGIN, self._stream_id)
        self._report("status", "NetStream.Play.Reset", "Playing and resetting.")
        self._report("status", "NetStream.Play.Start", "Playing has begun.")
        form, muxer = f"rtmp/{self._stream_id}", functools.partial(RtmpMuxer, stream_id=self._stream_id)
        self._feed = self._feeds.of(stream, form, muxer)
        self._viewer = RtmpViewer(
            self._transport, self._info.codecs, on_ended=self._on_ended, on_unplayable=self._turn_away
        )
        self._feed.join(self._viewer)

    def _on_ended(self) -> None:
        self._connection.user_control(STREAM_EOF, self._stream_id)
        self._report("status", "NetStream.Play.UnpublishNotify", "The stream has ended.")
        self._report("status", "NetStream.Play.Stop", "The stream has ended.")
        self._finish("the stream has ended")

    # Ends.

    def _turn_away(self, text: str) -> None:
        """Refuse what the client asked for, in words that its user sees, and close."""
        if self.role is Role.PUBLISH:
            code = "NetStream.Publish.Rejected"
        else:
            code = "NetStream.Publish.BadName" if self._asked == "publish" else "NetStream.Play.Failed"
        self._report("error", code, text)
        self._finish(text)

    def _report(self, level: str, code: str, description: str) -> None:
        self._connection.send_command(status(level, code, description), self._stream_id)

    def _finish(self, reason: str) -> None:
        """Close from our side; what was sent before still goes out."""
        self._reason = reason
        self._leave(reason)
        self._connection.reader.stop()
        self.role = Role.CLOSED
        self._transport.close()

    def _leave(self, reason: str) -> None:
        """Stop publishing, waiting or playing."""
        writer, self._writer = self._writer, None
        publication, self._publication = self._publication, None
        if writer is not None and publication is not None:
            try:
                publication.finish(self._now)
            finally:
                writer.close(reason, self._now)
        if self._feed is not None and self._viewer is not None:
            self._feed.leave(self._viewer)
            self._feed = None
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.viewer_left("rtmp")
        cancel, self._cancel_wait = self._cancel_wait, None
        if cancel is not None:
            cancel()

    # Time.

    def _enter(self, role: Role) -> None:
        self.role = role
        self._role_since = self._now
        self._arm()

    def _deadline(self) -> float:
        match self.role:
            case Role.SETUP:
                return self._role_since + self._settings.setup_s
            case Role.WAIT:
                return self._role_since + self._settings.wait_s
            case Role.PUBLISH:
                return min(self._media_at + self._settings.idle_s, self._check_at)
            case _:
                return self._check_at

    def _overdue(self, now: float) -> str:
        """Why the session must end now; empty when it need not."""
        settings = self._settings
        if self.role is Role.PUBLISH:
            if now >= self._media_at + settings.idle_s:
                return f"no data for {settings.idle_s:g} s"
        elif self.role is Role.SETUP and now >= self._role_since + settings.setup_s:
            return f"neither publish nor play within {settings.setup_s:g} s"
        elif self.role is Role.WAIT and now >= self._role_since + settings.wait_s:
            return f"there is no stream '{self._asked_stream()}' here"
        return ""

    def _end_overdue(self, reason: str) -> None:
        if self.role is Role.WAIT:
            self._report("error", "NetStream.Play.StreamNotFound", reason)
        elif self._info is not None:
            self._report("error", "NetConnection.Connect.Closed", reason)
        self._finish(reason)

    def _arm(self) -> None:
        self._armed = self._deadline()
        self._transport.wake_at(self._armed)

    def _arm_at(self, when: float) -> None:
        """Wake earlier than otherwise; `on_deadline` arms anew."""
        if when < self._armed:
            self._armed = when
            self._transport.wake_at(when)

    def _check(self, now: float) -> None:
        self._check_at = now + CHECK_S
        self._messages_at_check = self._connection.messages
        if self.role in (Role.PUBLISH, Role.PLAY):
            self._ping_sent = now
            self._connection.user_control(PING_REQUEST, int(now * 1000) & 0xFFFFFFFF)

    def _check_budget(self) -> None:
        if self._connection.messages - self._messages_at_check > IDLE_MESSAGES:
            raise WireError(f"more than {IDLE_MESSAGES} RTMP messages from a client that does not publish")

    def _asked_stream(self) -> str:
        """The name that a player asked for. What a publisher gives may be its key: never show that."""
        return self._address.stream if self._address and self._asked == "play" else ""

    def _agent(self) -> str:
        return self._info.agent if self._info else ""


_COMMANDS: dict[str, Callable[[RtmpSession, Command], None]] = {
    "connect": RtmpSession._connect,
    "createStream": RtmpSession._create_stream,
    "releaseStream": RtmpSession._acknowledge,
    "FCPublish": RtmpSession._acknowledge,
    "FCUnpublish": RtmpSession._unpublish,
    "deleteStream": RtmpSession._delete_stream,
    "closeStream": RtmpSession._close_stream,
    "publish": RtmpSession._publish,
    "play": RtmpSession._play,
    "getStreamLength": RtmpSession._stream_length,
    "FCSubscribe": RtmpSession._acknowledge,
    "_checkbw": RtmpSession._acknowledge,
    "checkBandwidth": RtmpSession._acknowledge,
    "pause": RtmpSession._ignore,
    "seek": RtmpSession._ignore,
    "receiveAudio": RtmpSession._ignore,
    "receiveVideo": RtmpSession._ignore,
}
