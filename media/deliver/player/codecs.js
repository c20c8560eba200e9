// What this browser can play, in words for people.

const NAMES = [
  [/^(avc1|avc3)/i, "H.264 video", ""],
  [/^(hvc1|hev1)/i, "HEVC (H.265) video",
    "HEVC plays in Safari, and in Chrome and Edge on machines that decode it in hardware."],
  [/^av01/i, "AV1 video", "AV1 plays in current Chrome, Edge and Firefox, and in Safari on newer Apple devices."],
  [/^vp09/i, "VP9 video", "VP9 plays in Chrome, Edge and Firefox."],
  [/^mp4a\.40/i, "AAC sound", ""],
  [/^opus/i, "Opus sound", "Opus plays in current Chrome, Edge, Firefox and Safari."],
  [/^flac/i, "FLAC sound", "FLAC plays in current Chrome, Edge, Firefox and Safari."],
  [/^(ac-3|mp4a\.a5)/i, "Dolby Digital (AC-3) sound", "AC-3 plays in Safari, and in Edge on Windows."],
  [/^(ec-3|mp4a\.a6)/i, "Dolby Digital Plus (E-AC-3) sound", "E-AC-3 plays in Safari, and in Edge on Windows."],
];

/** MediaSource or what stands in for it (Safari on iPhones has only the managed one); undefined without. */
export function mediaSourceClass() {
  return window.ManagedMediaSource && !window.MediaSource ? window.ManagedMediaSource : window.MediaSource;
}

/** Codecs of a MIME type such as `video/mp4; codecs="avc1.64001f,mp4a.40.2"`. */
export function codecsOf(mime) {
  const match = /codecs="?([^"]*)"?/i.exec(mime);
  return match ? match[1].split(",").map((codec) => codec.trim()).filter(Boolean) : [];
}

/** The codecs of `codecs` that MediaSource cannot play here. */
export function unplayable(codecs) {
  const source = mediaSourceClass();
  return codecs.filter((codec) => !source?.isTypeSupported(`video/mp4; codecs="${codec}"`));
}

/** "HEVC (H.265) video" for "hvc1.1.6.L93.B0". */
export function codecName(codec) {
  return NAMES.find(([pattern]) => pattern.test(codec))?.[1] ?? `the codec ${codec}`;
}

/** Heading and advice for a stream with codecs that do not play here. */
export function explainUnplayable(codecs) {
  const known = codecs.map((codec) => NAMES.find(([pattern]) => pattern.test(codec)));
  const names = [...new Set(codecs.map(codecName))].join(" and ");
  const where = [...new Set(known.map((entry) => entry?.[2]).filter(Boolean))].join(" ");
  const instead = codecs.some((codec) => /^(hvc1|hev1|av01|vp09)/i.test(codec)) ? "H.264" : "AAC";
  return {
    title: `This browser cannot play ${names}`,
    text: `${where} You can also open the stream in VLC or mpv, or ask the streamer to send ${instead}.`.trim(),
  };
}
