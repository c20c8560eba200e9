// The player's state machine: chooses a transport, plays, fails over, waits while the stream is off.

import { Choice, backoffMs } from "./choice.js";
import { explainUnplayable } from "./codecs.js";
import { Controls } from "./controls.js";
import { HlsTransport } from "./hls-adapter.js";
import { CatchUp, ServerClock } from "./latency.js";
import { Reporter, newSession } from "./quality.js";
import { WebSocketTransport } from "./websocket.js";

const TICK_MS = 100;
const START_LIMIT_MS = 8_000; // from connecting to the first picture
const STALL_LIMIT_MS = 6_000; // without progress while playing
const STALLS_MAX = 5; // in STALLS_WINDOW_MS: this transport is too much for the network
const STALLS_WINDOW_MS = 30_000;
const CODEC_RETRY_MS = 15_000;
const POLL_FIRST_MS = 2_000; // a stream that is off
const POLL_MAX_MS = 10_000;
const REST_HIDDEN_MS = 60_000; // a hidden tab without sound gives the streamer's uplink back
const REST_PAUSED_MS = 20_000;
const LATE_S = 5; // hls.js hurries, but does not jump by itself without fixing the latency too
const GAP_REACH_S = 0.5; // sound and picture do not end together: Chromium stops this far before a gap
const BEGIN_WAIT_MS = 700; // for a buffer of the wanted length before playing with less
const CLOCK_SAMPLES = 6;
const CLOCK_PERIOD_MS = 730; // no divisor of a second: `Date` has whole ones, and is sampled all over them
const LOG_MAX = 20;

const LABELS = { websocket: "WebSocket", hls: "HLS" };

class Player {
  /** connecting, playing, stalled, waiting, paused, blocked, resting, failed, unsupported. */
  state = "connecting";
  reason = ""; // why it is in this state, for people
  advice = null; // {title, text} in state unsupported
  log = []; // {at, text}, newest last
  controls = null;
  available = []; // names of transports that this browser has, best first

  #video;
  #config;
  #transport = null;
  #choice;
  #wanted = "auto";
  #session = newSession();
  #quality;
  #clock = new ServerClock();
  #catchUp = new CatchUp();
  #stalls = [];
  #counts = { stalls: 0, jumps: 0, failures: 0 };
  #codecs = new Set(); // that could not be played since the last picture
  #told = false; // the node said itself that the stream is not live
  #polls = 0;
  #timer = 0;
  #attachedAt = 0;
  #began = false;
  #liveAt = 0;
  #playedMs = 0;
  #lastTime = 0;
  #progressAt = 0;
  #idleSince = null;
  #userPaused = false;
  #rangeStart = null; // of the buffered range that was played last
  #seekedTo = 0;

  constructor(video, config) {
    this.#video = video;
    this.#config = config;
    if (WebSocketTransport.supported) this.available.push("websocket");
    if (HlsTransport.supported(Boolean(config.hlsScript))) this.available.push("hls");
    this.#choose(config.transport);
    this.#quality = new Reporter(config.qoe, this.#session, () => this.#seen());
    this.#quality.enter(this.state);
    for (const name of ["waiting", "playing", "pause", "play"]) video.addEventListener(name, () => this.#media(name));
    document.addEventListener("visibilitychange", () => this.#visibility());
    window.addEventListener("online", () => this.retry());
    setInterval(() => this.#tick(), TICK_MS);
  }

  get transport() {
    return this.#transport?.name ?? null;
  }

  get transportLabel() {
    return this.#transport?.label ?? "";
  }

  /** "auto" or the name that the viewer chose. */
  get wanted() {
    return this.#wanted;
  }

  get levels() {
    return this.#transport?.levels ?? [];
  }

  /** Milliseconds from the node's reception of the picture on screen to now; null when unknown. */
  latencyMs() {
    const shown = this.#transport?.playingMs;
    if (!this.#began || shown == null) return null;
    return Math.round(Date.now() + this.#clock.offsetMs - shown);
  }

  stats() {
    const quality = this.#video.getVideoPlaybackQuality?.();
    const edge = this.#transport?.edge;
    return {
      state: this.state,
      reason: this.reason,
      transport: this.transport,
      latencyMs: this.latencyMs(),
      clockOffsetMs: this.#clock.known ? Math.round(this.#clock.offsetMs) : null,
      bufferS: edge != null && this.#began ? Math.max(0, edge - this.#video.currentTime) : null,
      targetS: this.#catchUp.target,
      rate: this.#video.playbackRate,
      width: this.#video.videoWidth,
      height: this.#video.videoHeight,
      frames: quality?.totalVideoFrames ?? 0,
      dropped: quality?.droppedVideoFrames ?? 0,
      ...this.#counts,
      ...this.#transport?.stats(),
    };
  }

  start() {
    this.#sampleClock();
    this.#connect();
  }

  /** Use a transport by name, or "auto". */
  use(name) {
    this.#choose(name);
    this.#quality.enter("paused"); // the wait for it is the viewer's wish, and no stall
    this.#note(name === "auto" ? "chosen automatically" : `${LABELS[name]} chosen by the viewer`);
    this.#connect();
  }

  /** Leave whatever is waited for and connect now. */
  retry() {
    if (["waiting", "failed", "resting"].includes(this.state)) this.#connect();
  }

  toggle() {
    if (this.state === "resting" || this.state === "failed") this.#connect();
    else if (this.#video.paused) this.play();
    else this.#video.pause();
  }

  play() {
    this.#userPaused = false;
    if (!this.#transport) this.#connect();
    else {
      this.toLive();
      this.#play();
    }
  }

  /** Jump to the newest picture. */
  toLive() {
    const transport = this.#transport;
    if (!transport?.live || !this.#began) return;
    const goal = transport.livePosition ?? transport.edge - this.#catchUp.target;
    if (Number.isFinite(goal) && goal > this.#video.currentTime) this.#seek(goal);
  }

  chooseLevel(index) {
    this.#transport?.chooseLevel?.(index);
  }

  // Connecting

  #choose(name) {
    const names = this.available;
    this.#wanted = names.includes(name) ? name : "auto";
    this.#choice = new Choice(this.#wanted === "auto" ? names : [name]);
    this.#codecs.clear();
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#detach();
    const name = this.#choice.current;
    if (!name) {
      this.#unsupported([]);
      return;
    }
    this.#began = false;
    this.#playedMs = 0;
    this.#rangeStart = null;
    this.#seekedTo = 0;
    this.#stalls = [];
    this.#catchUp = new CatchUp();
    this.#attachedAt = this.#progressAt = performance.now();
    this.#told = false;
    // What is said while waiting stays until there is something better to show.
    if (!["waiting", "unsupported"].includes(this.state)) this.#set(this.#userPaused ? "paused" : "connecting");
    this.#transport = this.#make(name);
    this.#transport.start();
  }

  #make(name) {
    const { ws, hls, hlsScript } = this.#config;
    const events = {
      live: () => this.#live(),
      offline: () => this.#offline(`${this.#config.stream} is not live`),
      ended: (reason) => this.#ended(reason),
      failed: (reason, detail) => this.#failed(reason, detail),
      clock: (unixMs, sentMs, receivedMs) => this.#clock.observe(unixMs, unixMs, sentMs, receivedMs),
      levels: () => this.controls?.render(),
    };
    if (name === "websocket") return new WebSocketTransport(this.#video, ws, events);
    return new HlsTransport(this.#video, hls, hlsScript, this.#session, events);
  }

  #detach() {
    this.#transport?.stop();
    this.#transport = null;
    this.#video.playbackRate = 1;
  }

  // What transports tell

  #live() {
    this.#polls = 0;
    this.#liveAt = this.#progressAt = performance.now();
    if (this.state === "waiting") this.#note("the stream is live");
    if (this.state === "waiting" || this.state === "unsupported") this.#set("connecting");
    if (this.#transport.catchesUp) this.#begin();
  }

  #offline(reason) {
    this.#told = true;
    this.#set("waiting", reason);
    // A WebSocket stays open and tells when the stream begins; anything else is asked.
    if (this.transport !== "websocket") this.#poll();
  }

  #ended(reason) {
    this.#note(reason || "the stream has ended");
    this.#detach();
    this.#set("waiting", "The stream has ended");
    this.#choice.reset();
    this.#later(POLL_FIRST_MS);
  }

  #failed(reason, { codecs } = {}) {
    const failing = this.transport;
    this.#detach();
    if (this.state === "waiting") {
      // The node closes a WebSocket that waited long: nothing is wrong.
      if (this.#told) this.#later(POLL_FIRST_MS);
      else this.#poll();
      return;
    }
    for (const codec of codecs ?? []) this.#codecs.add(codec);
    const { name, delayMs, exhausted } = this.#choice.failed(this.#playedMs);
    if (exhausted && this.#codecs.size) {
      this.#unsupported([...this.#codecs]);
      this.#later(CODEC_RETRY_MS); // the streamer may follow the advice
      return;
    }
    this.#counts.failures += 1;
    this.#note(`${LABELS[failing]}: ${reason}${name === failing ? "" : `; using ${LABELS[name]}`}`);
    if (delayMs > 1_000) this.#set("failed", `${LABELS[failing]}: ${reason}`);
    this.#later(delayMs);
  }

  #later(delayMs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#connect(), delayMs * (0.75 + Math.random() * 0.5));
  }

  #unsupported(codecs) {
    this.#detach();
    this.advice = codecs.length
      ? explainUnplayable(codecs)
      : { title: "This browser cannot play live video", text: "Use a current Chrome, Edge, Firefox or Safari." };
    this.#note(this.advice.title);
    this.#set("unsupported", this.advice.title);
  }

  /** Ask now and then whether the stream is live, then start with the best transport. */
  #poll() {
    clearTimeout(this.#timer);
    this.#detach();
    this.#choice.reset();
    this.#timer = setTimeout(() => this.#ask(), backoffMs(this.#polls++, Math.random(), POLL_FIRST_MS, POLL_MAX_MS));
  }

  async #ask() {
    const answer = await fetch(this.#config.hls, { method: "HEAD", cache: "no-store" }).catch(() => null);
    if (this.state !== "waiting" || this.#transport) return;
    if (answer?.ok) {
      this.#set("connecting");
      this.#connect();
    } else {
      this.#poll();
    }
  }

  // Playing

  /** Start playing, at the wanted distance from the edge where that is ours to keep. */
  #begin() {
    this.#began = true;
    const { edge, catchesUp } = this.#transport;
    if (!catchesUp) {
      const ranges = this.#video.buffered;
      this.#seek(Math.max(ranges.start(ranges.length - 1), edge - this.#catchUp.target));
    }
    if (!this.#userPaused) this.#play();
  }

  async #play() {
    try {
      await this.#video.play();
    } catch (error) {
      if (error.name !== "NotAllowedError") return; // a new source took its place
      if (this.#video.muted) this.#set("blocked", "The browser wants a tap before it plays");
      else {
        this.#video.muted = true;
        await this.#play();
      }
    }
  }

  #seek(time) {
    this.#counts.jumps += 1;
    this.#seekedTo = time;
    this.#video.currentTime = time;
  }

  #media(name) {
    if (!this.#transport) return;
    if (name === "pause" && !this.#video.ended && this.#began && this.#video.readyState > 0) {
      this.#userPaused = true;
      this.#set("paused");
    } else if (name === "play") {
      this.#userPaused = false;
    } else if (name === "playing" && this.#began) {
      this.#set("playing");
    } else if (name === "waiting" && this.state === "playing" && !this.#video.seeking) {
      this.#stalled();
    }
  }

  #stalled() {
    const now = performance.now();
    this.#counts.stalls += 1;
    this.#stalls = [...this.#stalls.filter((at) => at > now - STALLS_WINDOW_MS), now];
    this.#catchUp.stalled(now);
    this.#set("stalled");
    if (this.#stalls.length > STALLS_MAX && this.#wanted === "auto" && this.available.length > 1) {
      this.#playedMs = 0; // no second try: the next one adapts better
      this.#failed(`stopped ${this.#stalls.length} times in half a minute`);
    }
  }

  #tick() {
    const now = performance.now();
    this.#rest(now);
    const transport = this.#transport;
    if (transport?.live && !this.#began) this.#tryBegin(now);
    if (transport && this.#began && !this.#video.paused && !this.#video.seeking && !this.#skipGap()) {
      if (!transport.catchesUp) this.#keepClose(now);
      else if (transport.excessS > LATE_S) this.toLive();
    }
    if (transport) this.#watch(now);
    this.controls?.tick();
  }

  #tryBegin(now) {
    const ranges = this.#video.buffered;
    if (!ranges.length) return;
    const ahead = this.#transport.edge - ranges.start(ranges.length - 1);
    if (ahead >= this.#catchUp.target || now - this.#liveAt > BEGIN_WAIT_MS) this.#begin();
  }

  /** Get over what the publisher left out; true when that took a seek. */
  #skipGap() {
    const video = this.#video;
    const time = video.currentTime;
    const { start, ahead, next } = around(video.buffered, time);
    const dry = ahead === 0 || (ahead < GAP_REACH_S && video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA);
    const jumps = next !== null && dry;
    // Chromium lets sound carry playback over a gap in the picture, which then stands still for good.
    const crossed = start !== null && this.#rangeStart !== null && start > this.#rangeStart && start > this.#seekedTo;
    if (start !== null) this.#rangeStart = start;
    if (jumps) this.#note(`skipped ${(next - time).toFixed(1)} s that are missing`);
    if (jumps || crossed) this.#seek(jumps ? next + 0.01 : time);
    return jumps || crossed;
  }

  /** Hurry, or jump when too far behind. */
  #keepClose(now) {
    const video = this.#video;
    this.#catchUp.adapt(this.#transport.jitterS, now);
    const { rate, jump } = this.#catchUp.decide(this.#transport.edge - video.currentTime, this.#playedMs);
    if (video.playbackRate !== rate) video.playbackRate = rate;
    if (jump) this.#seek(this.#transport.edge - this.#catchUp.target);
  }

  /** Notice that nothing moves any more. */
  #watch(now) {
    const time = this.#video.currentTime;
    const moved = time !== this.#lastTime;
    const excused = document.hidden || this.#userPaused || ["waiting", "blocked", "unsupported"].includes(this.state);
    if (moved && this.#began) {
      this.#playedMs += Math.min(TICK_MS * 2, now - this.#progressAt);
      this.#choice.proven(this.#playedMs);
      this.#codecs.clear();
      if (this.state === "connecting" && !this.#video.seeking && this.#video.readyState >= 3) this.#set("playing");
    }
    if (moved || excused) this.#progressAt = now;
    this.#lastTime = time;
    const started = this.#playedMs > 0;
    if (!excused && now - this.#progressAt > (started ? STALL_LIMIT_MS : START_LIMIT_MS)) {
      const seconds = Math.round((now - this.#progressAt) / 1000);
      this.#failed(started ? `no picture for ${seconds} s` : `no picture within ${seconds} s`);
    }
  }

  /** Stop using the network when nobody watches or listens. */
  #rest(now) {
    const video = this.#video;
    const unseen = document.hidden && document.pictureInPictureElement !== video;
    const idle = this.#userPaused || (unseen && (video.muted || video.volume === 0));
    if (!idle) this.#idleSince = null;
    else this.#idleSince ??= now;
    const limit = this.#userPaused ? REST_PAUSED_MS : REST_HIDDEN_MS;
    if (this.#transport && idle && now - this.#idleSince > limit) {
      this.#detach();
      this.#note(this.#userPaused ? "disconnected while paused" : "disconnected while hidden and muted");
      this.#set("resting", "");
    }
  }

  #visibility() {
    if (document.hidden) return;
    if (this.state === "resting" && !this.#userPaused) this.#connect();
    else if (this.#began && !this.#userPaused) this.#play();
  }

  // Bookkeeping

  /** For the node; the latency only where its clock is known. */
  #seen() {
    const quality = this.#video.getVideoPlaybackQuality?.();
    return {
      transport: this.#transport?.kind ?? null,
      rendition: this.#transport?.rendition ?? "",
      frames: quality?.totalVideoFrames ?? 0,
      dropped: quality?.droppedVideoFrames ?? 0,
      latencyMs: this.#clock.known ? this.latencyMs() : null,
    };
  }

  /** Sample the node's clock from the Date of small answers: whole seconds, narrowed by several. */
  async #sampleClock() {
    for (let sample = 0; sample < CLOCK_SAMPLES; sample += 1) {
      const sent = Date.now();
      const answer = await fetch(this.#config.clock, { method: "HEAD", cache: "no-store" }).catch(() => null);
      const date = Date.parse(answer?.headers.get("date") ?? "");
      if (Number.isFinite(date)) this.#clock.observe(date, date + 1000, sent, Date.now());
      await new Promise((resolve) => setTimeout(resolve, CLOCK_PERIOD_MS));
    }
  }

  #note(text) {
    if (this.log.at(-1)?.text === text) return;
    this.log.push({ at: new Date(), text });
    if (this.log.length > LOG_MAX) this.log.shift();
  }

  #set(state, reason = "") {
    if (this.state === state && this.reason === reason) return;
    this.state = state;
    this.reason = reason;
    this.#quality.enter(state);
    this.controls?.render();
  }
}

/** The buffered range at `time`: its start or null, how much is ahead in it, and where the next begins or null. */
function around(ranges, time) {
  let start = null;
  let ahead = 0;
  let next = null;
  for (let i = 0; i < ranges.length; i += 1) {
    if (ranges.start(i) <= time + 0.05 && ranges.end(i) > time) {
      start = ranges.start(i);
      ahead = ranges.end(i) - time;
    } else if (ranges.start(i) > time && next === null) {
      next = ranges.start(i);
    }
  }
  return { start, ahead, next };
}

/** Addresses and wishes from the page's data- attributes and its own address. */
function configOf(root) {
  const query = new URLSearchParams(location.search);
  const token = query.get("token");
  const address = (path) => {
    const url = new URL(path, location.href);
    if (token) url.searchParams.set("token", token);
    return url;
  };
  const ws = address(root.dataset.ws);
  ws.protocol = ws.protocol === "https:" ? "wss:" : "ws:";
  const transport = query.get("transport") ?? "auto";
  return {
    stream: root.dataset.stream,
    ws: ws.href,
    hls: address(root.dataset.hls).href,
    hlsScript: root.dataset.hlsScript ?? "",
    poster: address(root.dataset.poster).href,
    clock: root.dataset.clock,
    qoe: address(root.dataset.qoe).href,
    transport: transport === "ws" ? "websocket" : transport,
  };
}

const root = document.querySelector(".player");
const video = root.querySelector("video");
const config = configOf(root);
const player = new Player(video, config);
player.controls = new Controls(root, video, player, config);
window.fwplayer = {
  get state() {
    return player.state;
  },
  get transport() {
    return player.transport;
  },
  latencyMs: () => player.latencyMs(),
  stats: () => player.stats(),
};
player.start();
