// Which transport to use next, and when. Pure: the clock is given.

const STEADY_MS = 10_000; // a transport that played this long is tried once more before another
const RETRY_MS = 300;
const BACKOFF_FIRST_MS = 1_000;
const BACKOFF_MAX_MS = 15_000;

/** Backoff number `round` (0, 1, ...) in milliseconds; `random` in [0, 1) spreads viewers apart. */
export function backoffMs(round, random, first = BACKOFF_FIRST_MS, most = BACKOFF_MAX_MS) {
  const full = Math.min(most, first * 2 ** Math.min(round, 10));
  return full * (0.75 + random * 0.5);
}

/** Walks a list of transports, best first, as they fail. */
export class Choice {
  #order;
  #place = 0;
  #round = 0;
  #retried = false;
  #random;

  constructor(order, random = Math.random) {
    this.#order = order;
    this.#random = random;
  }

  get current() {
    return this.#order[this.#place];
  }

  /** Playing goes well: forget earlier failures. */
  proven(playedMs) {
    if (playedMs >= STEADY_MS) {
      this.#round = 0;
      this.#retried = false;
    }
  }

  /** The current transport failed after `playedMs` of playing.
   *
   * Returns {name, delayMs} to go on with; `exhausted` when every one has failed by now. */
  failed(playedMs) {
    if (playedMs >= STEADY_MS && !this.#retried) {
      this.#retried = true;
      return { name: this.current, delayMs: RETRY_MS, exhausted: false };
    }
    this.#retried = false;
    this.#place += 1;
    if (this.#place < this.#order.length) return { name: this.current, delayMs: 0, exhausted: false };
    this.#place = 0;
    return { name: this.current, delayMs: backoffMs(this.#round++, this.#random()), exhausted: true };
  }

  /** Begin again with the best. */
  reset() {
    this.#place = 0;
    this.#retried = false;
  }
}
