// A SourceBuffer that is fed in order, kept short, and says when it cannot go on.

const QUEUE_MAX_BYTES = 32 * 1024 * 1024; // a group of eight seconds at 30 Mb/s
const APPEND_MAX_BYTES = 4 * 1024 * 1024; // joined into one append
const KEEP_BEHIND_S = 10; // behind the playhead, for groups up to that long
const TRIM_AT_S = 20;

export class Buffer {
  #source;
  #video;
  #onFailed;
  #onAppended;
  #buffer;
  #queue = []; // Uint8Array, or a string: the MIME type of what follows
  #queued = 0;
  #tight = false; // the browser refused for lack of room, and was given some

  /** `source` is an open MediaSource. `onFailed(reason)` is called at most once. */
  constructor(source, video, mime, onAppended, onFailed) {
    this.#source = source;
    this.#video = video;
    this.#onAppended = onAppended;
    this.#onFailed = onFailed;
    this.#buffer = source.addSourceBuffer(mime);
    this.#buffer.addEventListener("updateend", () => this.#updated());
    this.#buffer.addEventListener("error", () => this.#fail("the browser could not decode what came"));
  }

  append(bytes) {
    this.#queue.push(bytes);
    this.#queued += bytes.byteLength;
    if (this.#queued > QUEUE_MAX_BYTES) this.#fail("this device cannot keep up with the stream");
    else this.#pump();
  }

  changeType(mime) {
    this.#queue.push(mime);
    this.#pump();
  }

  close() {
    this.#queue = [];
    this.#queued = 0;
    this.#onFailed = () => {};
    this.#onAppended = () => {};
    this.#buffer = null;
  }

  #updated() {
    if (!this.#buffer) return;
    this.#onAppended();
    this.#pump();
  }

  #pump() {
    if (!this.#buffer || this.#buffer.updating || !this.#queue.length || this.#source.readyState !== "open") return;
    if (this.#trim()) return;
    try {
      if (typeof this.#queue[0] === "string") {
        this.#buffer.changeType(this.#queue.shift());
        this.#pump();
        return;
      }
      this.#buffer.appendBuffer(this.#peek());
      this.#drop();
      this.#tight = false;
    } catch (error) {
      if (error.name === "QuotaExceededError" && !this.#tight && this.#makeRoom()) this.#tight = true;
      else this.#fail(`the browser refused data: ${error.message}`);
    }
  }

  /** What waits at the front, joined up to APPEND_MAX_BYTES: fewer, larger appends cost less. */
  #peek() {
    const [first, second] = this.#queue;
    if (!second || typeof second === "string") return first;
    const count = this.#count();
    const joined = new Uint8Array(this.#queue.slice(0, count).reduce((sum, part) => sum + part.byteLength, 0));
    let at = 0;
    for (const part of this.#queue.slice(0, count)) {
      joined.set(part, at);
      at += part.byteLength;
    }
    return joined;
  }

  #count() {
    let count = 0;
    let bytes = 0;
    for (const part of this.#queue) {
      if (typeof part === "string" || (count && bytes + part.byteLength > APPEND_MAX_BYTES)) break;
      bytes += part.byteLength;
      count += 1;
    }
    return count;
  }

  #drop() {
    for (const part of this.#queue.splice(0, this.#count())) this.#queued -= part.byteLength;
  }

  /** Remove what was played long ago; true when that has begun. */
  #trim() {
    const ranges = this.#buffer.buffered;
    if (!ranges.length) return false;
    const now = this.#video.currentTime;
    if (now - ranges.start(0) < TRIM_AT_S) return false;
    this.#buffer.remove(0, now - KEEP_BEHIND_S);
    return true;
  }

  #makeRoom() {
    const until = this.#video.currentTime - 1;
    const ranges = this.#buffer.buffered;
    if (!ranges.length || ranges.start(0) >= until) return false;
    this.#buffer.remove(0, until);
    return true;
  }

  #fail(reason) {
    const tell = this.#onFailed;
    this.close();
    tell(reason);
  }
}
