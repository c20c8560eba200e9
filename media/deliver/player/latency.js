// How far behind the camera the picture is, and how to keep it close. Pure: clocks are given.

const CLOCK_DRIFT_MS = 40; // two clocks that are kept by NTP stay within this; a contradiction beyond restarts
const JITTER_WINDOW_MS = 15_000;
const BURST_MS = 1_500; // the group sent on arrival and the start of the decoders say nothing about the network

/** The node's wall clock against ours, as the interval that all observations allow. */
export class ServerClock {
  #low = -Infinity;
  #high = Infinity;

  /** The node's clock read between `fromMs` and `toMs`, at some time between our `sentMs` and `receivedMs`. */
  observe(fromMs, toMs, sentMs, receivedMs) {
    const low = fromMs - receivedMs;
    const high = toMs - sentMs;
    this.#low = Math.max(this.#low, low);
    this.#high = Math.min(this.#high, high);
    if (this.#low > this.#high + CLOCK_DRIFT_MS) [this.#low, this.#high] = [low, high];
  }

  /** Milliseconds to add to our clock; 0 while both clocks may well agree. */
  get offsetMs() {
    if (this.#low <= 0 && this.#high >= 0) return 0;
    return (this.#low + this.#high) / 2;
  }

  get known() {
    return Number.isFinite(this.#low);
  }
}

/** How unevenly data arrives: the spread of (arrival - media time) over the last seconds. */
export class Arrivals {
  #samples = []; // [arrival ms, delay ms]
  #first = null;

  /** Data up to media time `endS` came at `nowMs`. */
  add(endS, nowMs) {
    this.#first ??= nowMs;
    if (nowMs - this.#first < BURST_MS) return;
    this.#samples.push([nowMs, nowMs - endS * 1000]);
    while (this.#samples[0][0] < nowMs - JITTER_WINDOW_MS) this.#samples.shift();
  }

  get jitterS() {
    if (this.#samples.length < 2) return 0;
    let least = Infinity;
    let most = -Infinity;
    for (const [, delay] of this.#samples) {
      least = Math.min(least, delay);
      most = Math.max(most, delay);
    }
    return (most - least) / 1000;
  }
}

const TARGET_FIRST_S = 0.4; // before anything is known of the network
const TARGET_LEAST_S = 0.2; // below this Chromium runs dry on its own audio buffering (measured)
const TARGET_MOST_S = 3;
const MARGIN_S = 0.15; // over the jitter seen
const STALL_STEP_S = 0.25; // more buffer after each stall
const STALL_FORGET_MS = 30_000;
const RATE_MOST = 1.1; // not noticed by most ears with pitch kept
const RATE_PER_S = 0.3; // of excess
const EXCESS_BEGIN_S = 0.1;
const EXCESS_END_S = 0.02;
const JUMP_S = 2;
const SETTLE_MS = 3_000; // after the first picture a jump is not noticed
const SETTLE_JUMP_S = 0.6;

/** Decides playback rate and jumps from how much is buffered ahead. */
export class CatchUp {
  #hurrying = false;
  #stalls = []; // times, ms
  #known = false;
  target = TARGET_FIRST_S;

  stalled(nowMs) {
    this.#stalls.push(nowMs);
  }

  /** Set the wanted buffer from the jitter of arrivals. */
  adapt(jitterS, nowMs) {
    while (this.#stalls.length && this.#stalls[0] < nowMs - STALL_FORGET_MS) this.#stalls.shift();
    this.#known ||= jitterS > 0;
    const base = this.#known ? Math.max(TARGET_LEAST_S, jitterS + MARGIN_S) : TARGET_FIRST_S;
    this.target = Math.min(TARGET_MOST_S, base + this.#stalls.length * STALL_STEP_S);
  }

  /** {rate} to play at, or {jump: true} to the target, with `aheadS` buffered after `playedMs` of playing. */
  decide(aheadS, playedMs) {
    const excess = aheadS - this.target;
    if (excess > (playedMs < SETTLE_MS ? SETTLE_JUMP_S : JUMP_S)) return { rate: 1, jump: true };
    if (excess > EXCESS_BEGIN_S) this.#hurrying = true;
    if (excess < EXCESS_END_S) this.#hurrying = false;
    const rate = this.#hurrying ? Math.min(RATE_MOST, 1.02 + excess * RATE_PER_S) : 1;
    return { rate, jump: false };
  }
}
