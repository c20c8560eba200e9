// Everything the viewer sees and touches over the picture.

const HIDE_MS = 3_000;
const SPINNER_MS = 400; // shorter waits are not shown
const DETAILS_MS = 500;
const VOLUME_STEP = 0.05;
const STORE = "fwplayer";

const TITLES = {
  websocket: "WebSocket",
  hls: "HLS",
};

/** What was remembered from the last visit; nothing where storage is closed to us (embedded pages). */
function remembered() {
  try {
    return JSON.parse(localStorage.getItem(STORE) ?? "{}");
  } catch {
    return {};
  }
}

function remember(values) {
  try {
    localStorage.setItem(STORE, JSON.stringify({ ...remembered(), ...values }));
  } catch {
    // Not allowed to: the next visit begins muted.
  }
}

export class Controls {
  #root;
  #video;
  #player;
  #config;
  #hideTimer = 0;
  #spinnerTimer = 0;
  #detailsAt = 0;

  constructor(root, video, player, config) {
    this.#root = root;
    this.#video = video;
    this.#player = player;
    this.#config = config;
    this.#restoreSound();
    this.#loadPoster();
    this.#wireButtons();
    this.#wirePointer();
    this.#wireSelects();
    root.addEventListener("keydown", (event) => this.#key(event));
    document.addEventListener("keydown", (event) => {
      if (event.target === document.body) this.#key(event);
    });
    for (const name of ["volumechange", "enterpictureinpicture", "leavepictureinpicture"]) {
      video.addEventListener(name, () => this.#volumeChanged());
    }
    document.addEventListener("fullscreenchange", () => this.render());
    this.#hideMissing();
    this.#show();
    this.render();
  }

  /** Show the player's state. */
  render() {
    const player = this.#player;
    this.#root.dataset.state = player.state;
    const playing = ["playing", "stalled", "connecting"].includes(player.state);
    this.#label("play", playing ? "Pause" : "Play", playing ? "pause" : "play", "k");
    const silent = this.#video.muted || this.#video.volume === 0;
    this.#label("mute", silent ? "Unmute" : "Mute", silent ? "muted" : "sound", "m");
    const full = document.fullscreenElement === this.#root;
    this.#label("fullscreen", full ? "Leave full screen" : "Full screen", full ? "shrink" : "expand", "f");
    this.#part("volume").value = silent ? 0 : this.#video.volume;
    this.#part("tap").hidden = !(this.#video.muted && player.state === "playing");
    this.#renderCover();
    this.#renderTransports();
    this.#renderLevels();
    if (player.state === "playing") this.#show();
  }

  /** Show what changes all the time. */
  tick() {
    const latency = this.#player.latencyMs();
    const text = latency === null ? "" : `${(Math.max(0, latency) / 1000).toFixed(1)} s`;
    const shown = this.#part("latency");
    if (shown.textContent !== text) shown.textContent = text;
    const now = performance.now();
    if (!this.#part("details").hidden && now - this.#detailsAt > DETAILS_MS) {
      this.#detailsAt = now;
      this.#renderDetails();
    }
  }

  #part(name) {
    return this.#root.querySelector(`[data-part="${name}"]`);
  }

  #label(part, text, icon, key) {
    const button = this.#part(part);
    button.setAttribute("aria-label", text);
    button.title = `${text} (${key})`;
    const use = button.querySelector("use");
    const href = `${use.getAttribute("href").split("#")[0]}#${icon}`;
    if (use.getAttribute("href") !== href) use.setAttribute("href", href);
  }

  // Cover: what is said instead of a picture

  #renderCover() {
    const { state } = this.#player;
    const cover = this.#part("cover");
    const words = this.#words();
    clearTimeout(this.#spinnerTimer);
    if (state === "connecting" || state === "stalled") {
      this.#spinnerTimer = setTimeout(() => cover.classList.add("spinning"), SPINNER_MS);
    } else {
      cover.classList.remove("spinning");
    }
    cover.hidden = state === "playing";
    this.#say("cover-title", words.title);
    this.#say("cover-text", words.text);
    this.#part("big-play").hidden = !["paused", "blocked", "resting"].includes(state);
    this.#part("retry").hidden = state !== "failed";
    this.#part("links").hidden = state !== "unsupported";
  }

  #words() {
    const { state, reason, advice } = this.#player;
    switch (state) {
      case "waiting":
        return {
          title: reason || `${this.#config.stream} is not live`,
          text: "Leave this page open: it starts by itself when the stream does.",
        };
      case "failed":
        return { title: "The stream cannot be reached", text: `${reason}. Trying again by itself.` };
      case "unsupported":
        return advice;
      case "blocked":
        return { title: "", text: reason };
      default:
        return { title: "", text: "" };
    }
  }

  #say(part, text) {
    const element = this.#part(part);
    if (element.textContent !== text) element.textContent = text;
    element.hidden = !text;
  }

  // Pickers

  #renderTransports() {
    const { available, wanted, transportLabel } = this.#player;
    const select = this.#part("transport");
    const automatic = transportLabel && wanted === "auto" ? `Auto · ${transportLabel}` : "Auto";
    const options = [["auto", automatic], ...available.map((name) => [name, TITLES[name]])];
    fill(select, options, wanted);
  }

  #renderLevels() {
    const levels = this.#player.levels;
    const select = this.#part("quality");
    select.hidden = levels.length < 2;
    if (!select.hidden) {
      const options = levels.map(({ index, label }) => [String(index), label]);
      fill(select, [["-1", "Auto quality"], ...options], select.value || "-1");
    }
  }

  #wireSelects() {
    this.#part("transport").addEventListener("change", ({ target }) => this.#player.use(target.value));
    this.#part("quality").addEventListener("change", ({ target }) => this.#player.chooseLevel(Number(target.value)));
  }

  // Details

  #renderDetails() {
    const stats = this.#player.stats();
    const rows = [
      ["Delivery", this.#player.transportLabel || "none"],
      ["Picture", stats.width ? `${stats.width}×${stats.height}` : ""],
      ["Codecs", stats.mime?.replace(/^.*codecs="|"$/g, "").replaceAll(",", ", ")],
      ["Latency", stats.latencyMs === null ? "unknown" : `${(stats.latencyMs / 1000).toFixed(2)} s`],
      ["Buffered", stats.bufferS === null ? "" : `${stats.bufferS.toFixed(2)} s, wanted ${stats.targetS?.toFixed(2)} s`],
      ["Speed", `${stats.rate.toFixed(2)}×`],
      ["Frames", `${stats.frames}, ${stats.dropped} dropped`],
      ["Stops", `${stats.stalls}, ${stats.failures} failures`],
    ].filter(([, value]) => value);
    this.#part("figures").replaceChildren(...rows.flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
    const lines = this.#player.log.map(({ at, text }) => make("li", `${at.toLocaleTimeString()} ${text}`));
    this.#part("log").replaceChildren(...lines.reverse());
  }

  #toggleDetails() {
    const details = this.#part("details");
    details.hidden = !details.hidden;
    this.#part("info").setAttribute("aria-expanded", String(!details.hidden));
    if (!details.hidden) this.#renderDetails();
  }

  // Sound

  #restoreSound() {
    const { volume } = remembered();
    if (typeof volume === "number") this.#video.volume = Math.min(1, Math.max(0, volume));
    // Muted pictures may start by themselves everywhere; with sound only where the browser allows it.
    this.#video.muted = remembered().sound !== true;
  }

  #volumeChanged() {
    this.render();
  }

  #unmute() {
    this.#setMuted(false);
    if (this.#video.volume === 0) this.#video.volume = 0.5;
  }

  #setMuted(muted) {
    this.#video.muted = muted;
    remember({ sound: !muted });
  }

  #setVolume(volume) {
    this.#video.volume = Math.min(1, Math.max(0, volume));
    this.#setMuted(this.#video.volume === 0);
    remember({ volume: this.#video.volume });
  }

  // Buttons, pointer, keys

  #wireButtons() {
    const actions = {
      play: () => this.#player.toggle(),
      "big-play": () => this.#player.play(),
      retry: () => this.#player.retry(),
      mute: () => this.#toggleMute(),
      tap: () => this.#unmute(),
      live: () => this.#player.toLive(),
      info: () => this.#toggleDetails(),
      "close-details": () => this.#toggleDetails(),
      pip: () => this.#togglePictureInPicture(),
      fullscreen: () => this.#toggleFullscreen(),
    };
    for (const [part, action] of Object.entries(actions)) {
      this.#part(part).addEventListener("click", (event) => {
        event.stopPropagation();
        action();
      });
    }
    this.#part("volume").addEventListener("input", ({ target }) => this.#setVolume(Number(target.value)));
  }

  #toggleMute() {
    if (this.#video.muted || this.#video.volume === 0) this.#unmute();
    else this.#setMuted(true);
  }

  async #togglePictureInPicture() {
    try {
      if (document.pictureInPictureElement) await document.exitPictureInPicture();
      else await this.#video.requestPictureInPicture();
    } catch {
      // Refused by the browser: the button does nothing.
    }
  }

  async #toggleFullscreen() {
    try {
      if (document.fullscreenElement) await document.exitFullscreen();
      else if (this.#root.requestFullscreen) await this.#root.requestFullscreen();
      else this.#video.webkitEnterFullscreen?.();
    } catch {
      // Refused by the browser or the page that embeds this one.
    }
  }

  #wirePointer() {
    const root = this.#root;
    root.addEventListener("pointermove", () => this.#show());
    root.addEventListener("focusin", () => this.#show());
    root.addEventListener("pointerleave", () => this.#hideSoon(600));
    const surface = this.#part("surface");
    surface.addEventListener("pointerup", (event) => {
      const shown = root.classList.contains("active");
      if (event.pointerType === "mouse") this.#player.toggle();
      else if (shown) this.#hideSoon(0);
      else this.#show();
    });
    surface.addEventListener("dblclick", () => this.#toggleFullscreen());
  }

  #show() {
    this.#root.classList.add("active");
    this.#hideSoon(HIDE_MS);
  }

  #hideSoon(delayMs) {
    clearTimeout(this.#hideTimer);
    this.#hideTimer = setTimeout(() => {
      const busy = this.#part("bar").matches(":focus-within:has(:focus-visible), :hover");
      if (this.#player.state === "playing" && !busy) this.#root.classList.remove("active");
    }, delayMs);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const field = event.target.closest?.("select, input, textarea, button");
    const action = {
      " ": field ? null : () => this.#player.toggle(),
      k: () => this.#player.toggle(),
      m: () => this.#toggleMute(),
      f: () => this.#toggleFullscreen(),
      i: () => this.#toggleDetails(),
      ArrowUp: () => this.#setVolume(this.#video.volume + VOLUME_STEP),
      ArrowDown: () => this.#setVolume(this.#video.volume - VOLUME_STEP),
      ArrowRight: () => this.#player.toLive(),
      Escape: this.#part("details").hidden ? null : () => this.#toggleDetails(),
    }[event.key];
    if (!action || (field?.matches("select, input") && event.key.startsWith("Arrow"))) return;
    event.preventDefault();
    this.#show();
    action();
  }

  #hideMissing() {
    this.#part("pip").hidden = !document.pictureInPictureEnabled;
    const fullscreen = document.fullscreenEnabled || this.#video.webkitSupportsFullscreen;
    this.#part("fullscreen").hidden = !fullscreen;
  }

  #loadPoster() {
    const picture = new Image();
    picture.onload = () => {
      this.#video.poster = picture.src;
    };
    picture.src = this.#config.poster;
  }
}

function make(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

/** Set a select's options, touching only what differs: an open list stays open. */
function fill(select, options, value) {
  if (select.options.length !== options.length) {
    select.replaceChildren(...options.map(() => document.createElement("option")));
  }
  options.forEach(([name, text], place) => {
    const option = select.options[place];
    if (option.value !== name) option.value = name;
    if (option.textContent !== text) option.textContent = text;
  });
  if (select.value !== value) select.value = value;
}
