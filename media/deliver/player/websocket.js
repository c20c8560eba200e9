// Fragmented MP4 over WebSocket into Media Source Extensions.

import { Buffer } from "./buffer.js";
import { codecsOf, mediaSourceClass, unplayable } from "./codecs.js";
import { Arrivals } from "./latency.js";

const OPEN_MS = 5_000; // to connect and hear whether the stream is live
const SECTIONS_MAX = 8; // discontinuities whose wall clock is remembered
const STUCK_BYTES = 4 * 1024 * 1024; // appended without the buffer growing: its times went back

export class WebSocketTransport {
  name = "websocket";
  label = "WebSocket";
  kind = "websocket"; // as the node is told
  catchesUp = false; // the player keeps the latency

  #video;
  #url;
  #events;
  #socket = null;
  #source = null;
  #buffer = null;
  #pending = []; // data that came before the MediaSource opened
  #mime = "";
  #tracks = [];
  #sections = []; // {from: media time, zeroMs: wall clock of media time 0}
  #arrivals = new Arrivals();
  #edge = null;
  #bytes = 0;
  #bytesAtGrowth = 0;
  #timer = 0;
  #sentAt = 0;

  static get supported() {
    return Boolean(mediaSourceClass() && window.WebSocket);
  }

  /** `events`: live(), offline(), ended(reason), failed(reason, {codecs}), clock(unixMs, sentMs, receivedMs). */
  constructor(video, url, events) {
    this.#video = video;
    this.#url = url;
    this.#events = events;
  }

  start() {
    this.#sentAt = Date.now();
    this.#socket = new WebSocket(this.#url);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onmessage = ({ data }) => this.#received(data);
    this.#socket.onclose = (event) => this.#closed(event);
    this.#timer = setTimeout(() => this.#fail("the WebSocket did not open in time"), OPEN_MS);
  }

  stop() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onmessage = socket.onclose = null;
      socket.close();
    }
    this.#detach();
  }

  get live() {
    return this.#mime !== "";
  }

  /** Media time up to which there is data; null before any. */
  get edge() {
    return this.#edge;
  }

  get jitterS() {
    return this.#arrivals.jitterS;
  }

  /** Name of the picture's track. */
  get rendition() {
    return this.#tracks[0]?.name ?? "";
  }

  /** Wall clock of what is on screen, ms; null when unknown. */
  get playingMs() {
    const time = this.#video.currentTime;
    const section = this.#sections.findLast((candidate) => candidate.from <= time);
    return section && this.#edge !== null ? section.zeroMs + time * 1000 : null;
  }

  stats() {
    return { mime: this.#mime, bytes: this.#bytes, jitterMs: Math.round(this.jitterS * 1000), tracks: this.#tracks };
  }

  #received(data) {
    clearTimeout(this.#timer);
    if (typeof data === "string") {
      this.#told(data);
      return;
    }
    this.#bytes += data.byteLength;
    const bytes = new Uint8Array(data);
    if (this.#buffer) this.#buffer.append(bytes);
    else this.#pending.push(bytes);
  }

  #told(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      this.#fail("the node sent something that is not JSON");
      return;
    }
    if (message.type === "init") this.#begin(message);
    else if (message.type === "offline") this.#events.offline();
    else if (message.type === "end") this.#events.ended(message.reason ?? "");
  }

  #begin(message) {
    const codecs = unplayable(codecsOf(message.mime));
    if (codecs.length || !mediaSourceClass().isTypeSupported(message.mime)) {
      this.#fail("this browser has no decoder for it", { codecs: codecs.length ? codecs : codecsOf(message.mime) });
      return;
    }
    if (message.server_unix_us) this.#events.clock(message.server_unix_us / 1000, this.#sentAt, Date.now());
    this.#sections.push({ from: this.#edge ?? 0, zeroMs: message.unix_us_at_zero / 1000 });
    if (this.#sections.length > SECTIONS_MAX) this.#sections.shift();
    this.#arrivals = new Arrivals(); // a publisher that was away says nothing about the network
    this.#tracks = message.tracks ?? [];
    const before = this.#mime;
    this.#mime = message.mime;
    if (!before) this.#attach();
    else if (before !== message.mime) this.#change(message.mime);
    this.#events.live();
  }

  #change(mime) {
    if (this.#buffer) this.#buffer.changeType(mime);
    else this.#fail("the stream changed before it began");
  }

  #attach() {
    const Source = mediaSourceClass();
    const source = (this.#source = new Source());
    const url = URL.createObjectURL(source);
    source.addEventListener("sourceopen", () => {
      URL.revokeObjectURL(url);
      if (this.#source === source) this.#opened();
    }, { once: true });
    this.#video.disableRemotePlayback = true; // ManagedMediaSource opens only so
    this.#video.src = url;
  }

  #opened() {
    try {
      this.#buffer = new Buffer(this.#source, this.#video, this.#mime, () => this.#appended(), (why) => this.#fail(why));
    } catch (error) {
      this.#fail(`the browser refused ${this.#mime}: ${error.message}`);
      return;
    }
    for (const bytes of this.#pending.splice(0)) this.#buffer?.append(bytes);
  }

  #appended() {
    const ranges = this.#video.buffered;
    if (!ranges.length) return;
    const end = ranges.end(ranges.length - 1);
    if (this.#edge === null || end > this.#edge) {
      this.#edge = end;
      this.#bytesAtGrowth = this.#bytes;
      this.#arrivals.add(end, performance.now());
    } else if (this.#bytes - this.#bytesAtGrowth > STUCK_BYTES) {
      this.#fail("the stream's times went back");
    }
  }

  #closed(event) {
    this.#fail(event.reason || (this.live ? "the WebSocket closed" : "the WebSocket could not be opened"));
  }

  #detach() {
    this.#buffer?.close();
    this.#buffer = null;
    if (!this.#source) return;
    this.#source = null;
    this.#video.removeAttribute("src");
    this.#video.load();
  }

  #fail(reason, detail = {}) {
    this.stop();
    this.#events.failed(reason, detail);
  }
}
