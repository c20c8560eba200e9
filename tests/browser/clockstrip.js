// Reads the demo's burnt-in clock for programs from a <video>; see fwnode/demo/clockstrip.py for its form.
(() => {
  const BLOCKS = 64;
  const ROWS_IN_HEIGHT = 36;
  const CELL = 8; // pixels of the small canvas for each block
  const LEAST_CONTRAST = 60;
  const SAMPLE_MS = 90; // reading a picture costs time: not each one

  function crc16(bytes) {
    let crc = 0xffff;
    for (const byte of bytes) {
      crc ^= byte << 8;
      for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : (crc << 1) & 0xffff;
    }
    return crc;
  }

  /** Milliseconds since 1970 from the brightness of the 64 blocks; null when there is no whole strip. */
  function readLevels(levels) {
    const black = (levels[0] + levels[BLOCKS - 1]) / 2;
    const white = (levels[1] + levels[BLOCKS - 2]) / 2;
    if (white - black < LEAST_CONTRAST) return null;
    const bits = levels.slice(2, -2).map((level) => (level > (black + white) / 2 ? 1 : 0));
    const number = (some) => some.reduce((sum, bit) => sum * 2 + bit, 0);
    const time = number(bits.slice(0, 44));
    const bytes = [5, 4, 3, 2, 1, 0].map((place) => Math.floor(time / 256 ** place) % 256);
    return number(bits.slice(44)) === crc16(bytes) ? time : null;
  }

  const canvas = document.createElement("canvas");
  canvas.width = BLOCKS * CELL;
  canvas.height = CELL;
  const context = canvas.getContext("2d", { willReadFrequently: true });

  /** What the picture on screen says; null when it says nothing. */
  function readVideo(video) {
    const { videoWidth, videoHeight } = video;
    if (!videoWidth) return null;
    const strip = videoHeight / ROWS_IN_HEIGHT;
    context.drawImage(video, 0, videoHeight - strip, videoWidth, strip, 0, 0, canvas.width, CELL);
    const { data } = context.getImageData(0, 0, canvas.width, CELL);
    const levels = [];
    for (let block = 0; block < BLOCKS; block += 1) {
      let sum = 0;
      for (let y = CELL / 2 - 1; y <= CELL / 2; y += 1) {
        for (let x = CELL / 2 - 1; x <= CELL / 2; x += 1) sum += data[(y * canvas.width + block * CELL + x) * 4 + 1];
      }
      levels.push(sum / 4);
    }
    return readLevels(levels);
  }

  /** For some seconds: how long ago, in ms, each sampled picture was drawn when it came on screen. */
  function measure(video, seconds) {
    return new Promise((resolve) => {
      const ages = [];
      let last = -Infinity;
      let over = false;
      setTimeout(() => {
        over = true;
        resolve(ages);
      }, seconds * 1000);
      function pictured(now, { expectedDisplayTime }) {
        if (over) return;
        video.requestVideoFrameCallback(pictured);
        if (now - last < SAMPLE_MS) return;
        last = now;
        const shownAt = Date.now() + Math.max(0, expectedDisplayTime - performance.now());
        const drawn = readVideo(video);
        if (drawn !== null) ages.push(shownAt - drawn);
      }
      video.requestVideoFrameCallback(pictured);
    });
  }

  return { readLevels, readVideo, measure };
})()
