// HLS: hls.js where it was fetched and Media Source Extensions are there, else the browser's own.

import { codecsOf, unplayable } from "./codecs.js";

const NATIVE_TYPE = "application/vnd.apple.mpegurl";
const MEDIA_RECOVERIES_MAX = 2; // decoder resets before another transport is tried
const WORDS = {
  manifestLoadError: "the playlist could not be loaded",
  manifestLoadTimeOut: "the playlist took too long to load",
  manifestIncompatibleCodecsError: "this browser has no decoder for it",
  bufferAddCodecError: "this browser has no decoder for it",
  levelLoadError: "the playlist could not be loaded",
  levelLoadTimeOut: "the playlist took too long to load",
  fragLoadError: "media could not be loaded",
  fragLoadTimeOut: "media took too long to load",
};
const CONFIG = {
  lowLatencyMode: true,
  // The distance from the edge is the playlist's PART-HOLD-BACK: three parts.
  maxLiveSyncPlaybackRate: 1.08,
  liveSyncOnStallIncrease: 0.5, // hls.js adds a second for each stall otherwise, for good
  liveDurationInfinity: true,
  backBufferLength: 20,
  maxBufferLength: 10,
  maxMaxBufferLength: 20,
  abrEwmaDefaultEstimate: 5_000_000,
  capLevelToPlayerSize: true,
  enableWorker: false, // fMP4 needs no remuxing, and a worker from a blob would need a wider CSP
};
// What the node knows the use of, in the query of playlists: a header would cost a question beforehand
// at each address of another node (CORS).
const CMCD_KEYS = ["sid", "sf", "st", "ot", "su", "bs", "mtp", "pr"];
const CMCD_FIRST = 2; // the multivariant playlist and the first one of a track
const CMCD_PERIOD_MS = 5_000; // playlists in between have the address that all viewers ask for

/** A loader for playlists that has one of `Telling` now and then, and else one of `Plain`. */
function sparing(Telling, Plain) {
  let told = 0;
  let toldAt = 0;
  return class {
    constructor(config) {
      const due = told < CMCD_FIRST || performance.now() - toldAt >= CMCD_PERIOD_MS;
      if (due) toldAt = performance.now();
      told += due;
      return due ? new Telling(config) : new Plain(config);
    }
  };
}

let loading = null;

/** The Hls class. Rejects when it cannot be loaded now. */
function loadHls(url) {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = () => resolve(window.Hls);
    script.onerror = () => {
      loading = null;
      script.remove();
      reject(new Error("hls.js could not be loaded"));
    };
    document.head.append(script);
  });
  return loading;
}

export class HlsTransport {
  name = "hls";
  label = "HLS";
  catchesUp = true;

  #video;
  #url;
  #script;
  #session;
  #events;
  #hls = null;
  #native = false;
  #stopped = false;
  #recoveries = 0;
  #live = false;
  #listeners = new AbortController();

  static supported(hasScript) {
    const native = document.createElement("video").canPlayType(NATIVE_TYPE) !== "";
    return native || (hasScript && Boolean(window.MediaSource || window.ManagedMediaSource));
  }

  /** `script` is the address of hls.js, or "" without; `session` names this viewing. `events`: see WebSocketTransport, and levels(). */
  constructor(video, url, script, session, events) {
    this.#video = video;
    this.#url = url;
    this.#script = script;
    this.#session = session;
    this.#events = events;
  }

  async start() {
    try {
      const Hls = this.#script ? await loadHls(this.#script) : null;
      if (this.#stopped) return;
      if (Hls?.isSupported()) this.#startScript(Hls);
      else if (this.#video.canPlayType(NATIVE_TYPE)) this.#startNative();
      else this.#fail("hls.js is not on this node, and the browser has no HLS of its own");
    } catch (error) {
      this.#fail(error.message);
    }
  }

  stop() {
    this.#stopped = true;
    this.#listeners.abort();
    this.#hls?.destroy();
    this.#hls = null;
    if (this.#native) {
      this.#video.removeAttribute("src");
      this.#video.load();
    }
  }

  /** How the node is told of it. */
  get kind() {
    return this.#native ? "hls-native" : "hls";
  }

  /** Name of the track in use. */
  get rendition() {
    const level = this.#hls?.levels?.[this.#hls.currentLevel];
    return level ? (new URL(level.uri, location.href).pathname.split("/").at(-2) ?? "") : "";
  }

  get live() {
    return this.#live;
  }

  get edge() {
    const ranges = this.#video.buffered;
    return ranges.length ? ranges.end(ranges.length - 1) : null;
  }

  /** Where to jump to be live; null when unknown. */
  get livePosition() {
    if (this.#hls) return this.#hls.liveSyncPosition;
    const ranges = this.#video.seekable;
    return ranges.length ? ranges.end(ranges.length - 1) : null;
  }

  /** Seconds behind where it should be; null when unknown. */
  get excessS() {
    return this.#hls ? this.#hls.latency - this.#hls.targetLatency : null;
  }

  get playingMs() {
    if (this.#hls) return this.#hls.playingDate?.getTime() ?? null;
    const start = this.#video.getStartDate?.().getTime();
    return Number.isFinite(start) ? start + this.#video.currentTime * 1000 : null;
  }

  /** [{index, label}] of what can be chosen, best first. */
  get levels() {
    const levels = (this.#hls?.levels ?? []).map((level, index) => ({
      index,
      height: level.height,
      bitrate: level.bitrate,
      label: level.height ? `${level.height}p` : `${Math.round(level.bitrate / 1000)} kb/s`,
    }));
    return levels.sort((a, b) => b.height - a.height || b.bitrate - a.bitrate);
  }

  /** Choose a level by index, or -1 for automatic. */
  chooseLevel(index) {
    if (this.#hls) this.#hls.nextLevel = index;
  }

  stats() {
    const level = this.#hls?.levels?.[this.#hls.currentLevel];
    return {
      engine: this.#native ? "browser" : "hls.js",
      mime: level ? [level.videoCodec, level.audioCodec].filter(Boolean).join(",") : "",
      targetS: this.#hls?.targetLatency ?? null,
      edgeLatencyS: this.#hls?.latency ?? null,
      bandwidth: this.#hls ? Math.round(this.#hls.bandwidthEstimate) : null,
    };
  }

  #startScript(Hls) {
    const cmcd = { sessionId: this.#session, includeKeys: CMCD_KEYS };
    const hls = (this.#hls = new Hls({ ...CONFIG, cmcd }));
    hls.config.fLoader = undefined; // addresses of media stay the same for everyone, and caches of use
    hls.config.pLoader = sparing(hls.config.pLoader, hls.config.loader);
    hls.on(Hls.Events.ERROR, (_, data) => this.#failure(Hls, data));
    hls.on(Hls.Events.MANIFEST_PARSED, () => this.#events.levels());
    hls.on(Hls.Events.LEVEL_UPDATED, (_, { details }) => {
      if (details.live) this.#begin();
      else if (!this.#live) this.#offline(); // the remains of one that has ended
    });
    this.#video.addEventListener("ended", () => this.#events.ended(""), { signal: this.#listeners.signal });
    hls.loadSource(this.#url);
    hls.attachMedia(this.#video);
  }

  #startNative() {
    this.#native = true;
    const { signal } = this.#listeners;
    this.#video.addEventListener("loadedmetadata", () => this.#begin(), { signal });
    this.#video.addEventListener("ended", () => this.#events.ended(""), { signal });
    this.#video.addEventListener("error", () => this.#explain("the browser's own HLS player gave up"), { signal });
    this.#video.src = this.#url;
  }

  #begin() {
    if (this.#live) return;
    this.#live = true;
    this.#events.live();
  }

  #failure(Hls, data) {
    if (!data.fatal) return;
    if (data.type === Hls.ErrorTypes.MEDIA_ERROR && !/codec/i.test(data.details) && this.#recoveries < MEDIA_RECOVERIES_MAX) {
      this.#recoveries += 1;
      this.#hls.recoverMediaError();
      return;
    }
    const status = data.response?.code;
    this.#explain(`${WORDS[data.details] ?? data.details}${status ? ` (HTTP ${status})` : ""}`, status);
  }

  /** Not live, or codecs that do not play here, or another failure: the playlist tells. */
  async #explain(reason, status) {
    if (status === 404) {
      this.#offline();
      return;
    }
    const answer = await fetch(this.#url, { cache: "no-store" }).catch(() => null);
    if (this.#stopped) return;
    if (answer?.status === 404) {
      this.#offline();
      return;
    }
    const playlist = answer?.ok ? await answer.text() : "";
    const lists = [...playlist.matchAll(/CODECS="[^"]*"/g)].map(([list]) => unplayable(codecsOf(list)));
    const none = lists.length > 0 && lists.every((list) => list.length > 0);
    this.#fail(reason, none ? { codecs: [...new Set(lists.flat())] } : {});
  }

  #offline() {
    this.stop();
    this.#events.offline();
  }

  #fail(reason, detail = {}) {
    if (this.#stopped) return;
    this.stop();
    this.#events.failed(reason, detail);
  }
}
