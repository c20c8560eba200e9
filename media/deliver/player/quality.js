// What this viewer sees, told to the node: startup, stalls, latency. Nothing else, and under a name that
// is drawn anew for each page and kept nowhere.

const SESSION_BYTES = 16;
const REPORT_MS = 10_000;
const REPORT_MAX_MS = 160_000; // a node that does not want reports is asked less and less
const SAMPLES_MAX = 20; // of the latency between two reports, one a second
const IDLE = ["waiting", "paused", "blocked", "resting", "unsupported"]; // nobody waits for a picture

/** A name for this viewing. */
export function newSession() {
  const bytes = crypto.getRandomValues(new Uint8Array(SESSION_BYTES));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Counts what is seen from the player's states. Pure: the clock is given. */
export class Viewing {
  startupMs = null; // null: no picture so far, or not known
  watchedMs = 0; // playing or stalled
  stalledMs = 0;
  stalls = 0;
  frames = 0;
  dropped = 0;

  #state = "";
  #at = 0;
  #started = false;
  #wishedAt = null; // since when a first picture is waited for
  #framesBefore = 0;
  #droppedBefore = 0;
  #latencies = [];

  /** The player is in this state now. */
  enter(state, nowMs) {
    this.#pass(nowMs);
    const stopped = state === "stalled" || (this.#started && ["connecting", "failed"].includes(state));
    if (stopped && this.#state === "playing") this.stalls += 1;
    if (!this.#started) {
      if (IDLE.includes(state)) this.#wishedAt = null;
      else if (state !== "playing") this.#wishedAt ??= nowMs;
      // After a tap that the browser wanted, it is not known how long it would have taken.
      else if (this.#wishedAt !== null) this.startupMs = nowMs - this.#wishedAt;
      this.#started = state === "playing";
    }
    // Back from a rest it starts anew: that wait is no stall.
    if (state === "playing" || IDLE.includes(state)) this.#state = state;
    else if (stopped && ["playing", "stopped"].includes(this.#state)) this.#state = "stopped";
  }

  /** Once a second: frames of the <video> so far, and the latency, null when unknown. */
  sample(frames, dropped, latencyMs, nowMs) {
    this.#pass(nowMs);
    // A new source counts from zero.
    this.frames += frames >= this.#framesBefore ? frames - this.#framesBefore : frames;
    this.dropped += dropped >= this.#droppedBefore ? dropped - this.#droppedBefore : dropped;
    this.#framesBefore = frames;
    this.#droppedBefore = dropped;
    if (this.#state === "playing" && latencyMs !== null && this.#latencies.length < SAMPLES_MAX) {
      this.#latencies.push(latencyMs);
    }
  }

  /** Whether there is, or was to be, something to see. */
  get begun() {
    return this.#started || this.#wishedAt !== null;
  }

  /** What the node is told. The latency is the median since the call before. */
  report() {
    const sorted = this.#latencies.sort((a, b) => a - b);
    this.#latencies = [];
    const latency = sorted.length ? sorted[sorted.length >> 1] : null;
    return {
      startup_ms: this.startupMs === null ? null : Math.round(this.startupMs),
      latency_ms: latency === null ? null : Math.max(0, Math.round(latency)),
      watched_ms: Math.round(this.watchedMs),
      stalled_ms: Math.round(this.stalledMs),
      stalls: this.stalls,
      frames: this.frames,
      dropped: this.dropped,
    };
  }

  #pass(nowMs) {
    const passed = nowMs - this.#at;
    this.#at = nowMs;
    if (this.#state === "playing" || this.#state === "stopped") this.watchedMs += passed;
    if (this.#state === "stopped") this.stalledMs += passed;
  }
}

/** Tells the node every ten seconds while there is something to tell, and when the page goes. */
export class Reporter {
  #url;
  #viewing = new Viewing();
  #look;
  #session;
  #periodMs = REPORT_MS;
  #toldAt = performance.now();
  #told = "";

  /** `look()`: {transport, rendition, frames, dropped, latencyMs}; transport null while there is none. */
  constructor(url, session, look) {
    this.#url = url;
    this.#session = session;
    this.#look = look;
    setInterval(() => this.#tick(), 1_000);
    document.addEventListener("visibilitychange", () => document.hidden && this.#last(false));
    addEventListener("pagehide", () => this.#last(true));
  }

  enter(state) {
    this.#viewing.enter(state, performance.now());
  }

  #tick() {
    const now = performance.now();
    const { transport, frames, dropped, latencyMs } = this.#look();
    this.#viewing.sample(frames, dropped, latencyMs, now);
    if (transport && this.#viewing.begun && now - this.#toldAt >= this.#periodMs) this.#tell(now);
  }

  async #tell(now) {
    this.#toldAt = now;
    const { transport, rendition } = this.#look();
    this.#told = transport;
    const answer = await fetch(this.#url, {
      method: "POST",
      body: this.#text(transport, rendition, false),
      credentials: "omit",
      referrerPolicy: "no-referrer",
    }).catch(() => null);
    this.#periodMs = answer?.ok ? REPORT_MS : Math.min(REPORT_MAX_MS, this.#periodMs * 2);
  }

  /** The page is hidden, or goes: perhaps the last chance to tell. */
  #last(ended) {
    const { transport, rendition } = this.#look();
    const name = transport || this.#told;
    if (!this.#viewing.begun || !name) return;
    this.#viewing.sample(...this.#counts(), performance.now());
    navigator.sendBeacon(this.#url, this.#text(name, rendition, ended));
  }

  #counts() {
    const { frames, dropped, latencyMs } = this.#look();
    return [frames, dropped, latencyMs];
  }

  #text(transport, rendition, ended) {
    return JSON.stringify({ session: this.#session, transport, rendition, ended, ...this.#viewing.report() });
  }
}
