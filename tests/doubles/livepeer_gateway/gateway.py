"""The gateway itself: from a push to its renditions, without a socket. Runs on trio."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial

import trio

from livepeer_gateway import checks, transcoder, webhook
from livepeer_gateway.checks import FRAMEWORKS, Push, Refused
from livepeer_gateway.configuration import Configuration, ladder
from livepeer_gateway.faults import Fault, FaultPlan
from livepeer_gateway.framing import Part
from livepeer_gateway.journal import Entry, Journal
from livepeer_gateway.options import REMEMBERED, REMUX, Options
from livepeer_gateway.profiles import Profile, ProfileError
from livepeer_gateway.sessions import Full, Replayed, Session, SessionTable
from livepeer_gateway.transcoder import Settings, Source, TranscodeError

REMEMBERED_MAX = 1000  # answers; a benchmark repeats a handful of segments
MADE_WRONG = ("other-segment", "wrong-size")  # faults of the transcode itself
OTHER_SEGMENT_TICKS = 30 * 90_000
SURFACES = ("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le")
NON_RETRYABLE = (
    "Unsupported input pixel format",
    "Error initializing filtergraph",
    "Too many outputs",
    "Unsupported input codec",
    "No keyframes in input",
    "Encoded frames runaway",
    "Invalid argument",
    "TranscoderInvalid",
    "TranscoderUnrecognized",
    "TranscoderIncompatibleDevices",
)
CallWebhook = Callable[[Push, Mapping[str, str], Source], Awaitable[tuple[int, bytes]]]


@dataclass(slots=True)
class Job:
    """Work on one segment: goes on when the client has hung up."""

    done: trio.Event = field(default_factory=trio.Event)
    renditions: list[bytes] = field(default_factory=list)
    refused: Refused | None = None


class Gateway:
    """Sessions, orchestrators and faults of one double."""

    def __init__(self, options: Options, nursery: trio.Nursery, call_webhook: CallWebhook) -> None:
        self.options = options
        self.sessions = SessionTable(options.max_sessions)
        self.faults = FaultPlan()
        self.journal = Journal()
        self.orchestrators = options.orchestrators
        self.script: list[str] = []  # of the next tries: "ok", "busy" or "invalid"
        self.latency_s = options.latency_s
        self.clock_offset_s = 0.0
        self._nursery = nursery
        self._call_webhook = call_webhook
        self._initializing: dict[str, trio.Event] = {}
        self._remembered: dict[tuple[object, ...], list[bytes]] = {}
        self._limiter = trio.CapacityLimiter(options.jobs)
        self._began = trio.current_time()

    def now(self) -> float:
        """Seconds since the start, and what a test has added."""
        return trio.current_time() - self._began + self.clock_offset_s

    def restart(self) -> None:
        """Sessions are lost; what is in work goes on for nobody."""
        self.sessions.clear()

    def find(self, url_id: str) -> Session | None:
        """The session that a URL means, when it has not idled out."""
        self.sessions.expire(self.now())
        return self.sessions.find(url_id)

    async def push(
        self, push: Push, headers: Mapping[str, str], body: bytes, entry: Entry, fault: Fault | None
    ) -> list[Part]:
        """Checks 7 to 16: the parts of a success. Raises Refused."""
        arrived = trio.current_time()
        source = await trio.to_thread.run_sync(transcoder.inspect, body, limiter=self._limiter)
        self._check_codec(push, source)
        session = await self._session(push, headers, source, entry)
        session.last_used = self.now()
        session.in_flight += 1
        entry.in_flight = session.in_flight
        try:
            milliseconds = checks.duration_ms(push, headers)
            session.durations[push.target.sequence] = milliseconds / 1000
            entry.reinit = self._reinit(push, session, source)
            if not session.profiles:
                return []
            job = self._job(push, session, source, body, milliseconds, entry, fault)
            await self._finish(job, push, session, milliseconds, arrived)
        finally:
            session.in_flight -= 1
            session.last_used = self.now()
        session.store("source", push.target.sequence, body)
        return self._parts(push, session, job.renditions)

    def _check_codec(self, push: Push, source: Source) -> None:
        if source.codec and source.codec not in transcoder.INPUT_CODECS:
            raise Refused(422, f"Unknown input stream codec={source.codec}")
        if self.options.dialect == FRAMEWORKS and not source.codec:
            raise checks.segment_error(422, push, "probe failed: no video")

    async def _session(self, push: Push, headers: Mapping[str, str], source: Source, entry: Entry) -> Session:
        url_id = push.target.manifest_id
        while (session := self.find(url_id)) is None:
            if url_id in self._initializing:
                await self._initializing[url_id].wait()
                continue
            self._initializing[url_id] = trio.Event()
            try:
                session = await self._open(push, headers, source)
                entry.new_session = True
                return session
            finally:
                self._initializing.pop(url_id).set()
        return session

    async def _open(self, push: Push, headers: Mapping[str, str], source: Source) -> Session:
        configuration = await self._authorised(push, headers, source)
        try:
            profiles = ladder(configuration, self.options.ladder)
            if configuration.object_store and "://" not in configuration.object_store:
                raise ProfileError("bad object store")
            if source.pixel_format and source.codec == "h264" and source.pixel_format not in SURFACES:
                error = f'http push error url={push.url} err="unsupported pixel format {source.pixel_format}"'
                raise Refused(500, error)
            session = self.sessions.open(
                push.target.manifest_id, configuration.manifest_id, profiles, self.now()
            )
        except (ProfileError, Full):
            raise checks.no_stream(push, 500) from None
        session.shape = source.shape
        session.workload = configuration.workload or "live"
        session.deadline_ms = configuration.deadline_ms
        return session

    async def _authorised(self, push: Push, headers: Mapping[str, str], source: Source) -> Configuration:
        strict = self.options.dialect == FRAMEWORKS
        if strict and self.options.job_token:
            given = push.configuration.job_token if push.configuration else ""
            if given != self.options.job_token:
                raise checks.no_stream(push, 403 if given else 401)
        if not self.options.webhook:
            return push.configuration or Configuration()
        try:
            status, reply = await self._call_webhook(push, headers, source)
            allowed = webhook.judged_strictly(status, reply) if strict else webhook.judged(status, reply)
            return webhook.merged(allowed, push.configuration)
        except (webhook.Denied, OSError):
            raise checks.no_stream(push, 403) from None
        except webhook.Mismatch:
            raise checks.no_stream(push, 500) from None

    def _reinit(self, push: Push, session: Session, source: Source) -> bool:
        changed = bool(source.codec) and source.shape != session.shape
        if changed:
            session.shape = source.shape
        asked = push.configuration is not None and push.configuration.force_session_reinit
        return changed or asked

    def _job(
        self,
        push: Push,
        session: Session,
        source: Source,
        body: bytes,
        milliseconds: int,
        entry: Entry,
        fault: Fault | None,
    ) -> Job:
        fingerprint = hashlib.sha256(body + f"/{push.target.extension}/{milliseconds}".encode()).hexdigest()
        if self.options.dialect == FRAMEWORKS:
            try:
                found = session.replay.find(push.target.sequence, fingerprint)
            except Replayed as error:
                raise checks.segment_error(422, push, str(error)) from None
            if isinstance(found, Job) and found.refused is None:
                entry.joined = True
                return found
        job = Job()
        session.replay.add(push.target.sequence, fingerprint, job)
        work = partial(self._work, job, push, session.profiles, source, body, entry, fault)
        self._nursery.start_soon(work, name=f"transcode {push.target.manifest_id}")
        return job

    async def _finish(
        self, job: Job, push: Push, session: Session, milliseconds: int, arrived: float
    ) -> None:
        if self.options.dialect == FRAMEWORKS:
            allowed = checks.answer_by_s(
                push.configuration, session.deadline_ms, session.workload, milliseconds
            )
            with trio.move_on_at(arrived + allowed):
                await job.done.wait()
        else:
            await job.done.wait()
        if job.refused is not None:
            raise job.refused
        if not job.renditions:
            raise Refused(503, checks.NO_SESSIONS)

    async def _work(
        self,
        job: Job,
        push: Push,
        profiles: tuple[Profile, ...],
        source: Source,
        body: bytes,
        entry: Entry,
        fault: Fault | None,
    ) -> None:
        try:
            if source.needs_bypass:
                job.renditions = [body for _ in profiles]
            else:
                job.renditions = await self._attempts(push, profiles, source, body, entry, fault)
        except Refused as refused:
            job.refused = refused
        finally:
            job.done.set()

    async def _attempts(
        self,
        push: Push,
        profiles: tuple[Profile, ...],
        source: Source,
        body: bytes,
        entry: Entry,
        fault: Fault | None,
    ) -> list[bytes]:
        strict = self.options.dialect == FRAMEWORKS
        refusals: list[str] = []
        for attempt in range(self.options.max_attempts):
            if attempt >= self.orchestrators:
                raise Refused(503, checks.NO_SESSIONS)
            entry.attempts += 1
            try:
                return await self._try(push, profiles, source, body, fault)
            except TranscodeError as error:
                final = str(error).startswith(NON_RETRYABLE)
                if final and (not strict or str(error) in refusals):
                    raise checks.segment_error(422, push, str(error)) from None
                refusals += [str(error)] if final else []
        if strict:
            raise Refused(503, checks.NO_SESSIONS)
        raise checks.segment_error(422, push, "hit max transcode attempts: UnknownResponse")

    async def _try(
        self,
        push: Push,
        profiles: tuple[Profile, ...],
        source: Source,
        body: bytes,
        fault: Fault | None,
    ) -> list[bytes]:
        verdict = self.script.pop(0) if self.script else "ok"
        await trio.sleep(self.latency_s)
        if verdict == "busy":
            raise TranscodeError("OrchestratorBusy")
        if verdict != "ok":
            raise TranscodeError(f"Invalid argument: {verdict}")
        if self.options.gpu and "420" not in source.pixel_format and source.pixel_format:
            raise TranscodeError("Unsupported input pixel format")
        return await self._made(body, push, profiles, fault)

    async def _made(
        self, body: bytes, push: Push, profiles: tuple[Profile, ...], fault: Fault | None
    ) -> list[bytes]:
        kind = fault.fault if fault else ""
        settings = Settings(self.options.preset, clip_ms=push.clip_ms)
        if kind == "other-segment":
            settings = replace(settings, shift_ticks=OTHER_SEGMENT_TICKS)
        if kind == "wrong-size":
            settings = replace(settings, scale=Fraction(1, 2))
        extension = push.target.extension
        run = partial(trio.to_thread.run_sync, limiter=self._limiter)
        if self.options.work == REMUX and kind not in MADE_WRONG:
            made = await run(transcoder.remux, body, extension)
            return [made for _ in profiles]
        key = (hashlib.sha256(body).digest(), profiles, extension, settings)
        if self.options.work == REMEMBERED and key in self._remembered:
            return self._remembered[key]
        renditions = await run(transcoder.transcode, body, extension, profiles, settings)
        if self.options.work == REMEMBERED and len(self._remembered) < REMEMBERED_MAX:
            self._remembered[key] = renditions
        return renditions

    def _parts(self, push: Push, session: Session, renditions: list[bytes]) -> list[Part]:
        parts = []
        for profile, data in zip(session.profiles, renditions, strict=True):
            target = push.target
            uri = ""
            if self.options.outside_store:
                name = f"{target.sequence}{target.extension}"
                uri = f"{self.options.outside_store}/{session.manifest_id}/{profile.name}/{name}"
            session.store(profile.name, target.sequence, data)
            parts.append(Part(profile.name, target.sequence, target.extension, data, uri))
        return parts
