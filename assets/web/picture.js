'use strict';
// Pictures that visitors bring: opened, cut to their middle square and resized as the program does it.
// Needs tensors.js.

globalThis.SodaPicture = (() => {
  const { SodaError } = globalThis.SodaTensors;

  /** Pixels of a picture at most: more take too much memory. */
  const MOST_PIXELS = 50e6;
  /** Side that larger squares are shrunk to by the browser, before our own filter. */
  const WORKING_SIDE = 1024;

  /** Lanczos of three lobes, for shrinking. */
  const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
  const lanczos = { reach: 3, at: (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0) };
  /** Catmull and Rom's cubic, for enlarging. */
  const cubic = {
    reach: 2,
    at: (x) => {
      const d = Math.abs(x);
      if (d < 1) return (1.5 * d - 2.5) * d * d + 1;
      return d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
    },
  };

  /** Bilinear, for what the encoder sees. */
  const triangle = { reach: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) };

  /** Where each of `to` pixels looks among `from`, and how much it takes from there. */
  function taps(from, to, filter = from > to ? lanczos : cubic) {
    const scale = from / to;
    const wide = Math.max(scale, 1);
    return Array.from({ length: to }, (_, i) => {
      const centre = (i + 0.5) * scale;
      const first = Math.max(0, Math.floor(centre - filter.reach * wide));
      const last = Math.min(from, Math.ceil(centre + filter.reach * wide));
      const weights = [];
      for (let k = first; k < last; k++) weights.push(filter.at((k + 0.5 - centre) / wide));
      const sum = weights.reduce((a, b) => a + b, 0);
      return { first, weights: weights.map((w) => w / sum) };
    });
  }

  /**
   * A picture of `channels` bytes a pixel as [side, side, 3].
   * @param {ArrayLike<number>} from @returns {Uint8Array}
   */
  function resized(from, width, height, channels, side) {
    const [across, down] = [taps(width, side), taps(height, side)];
    const half = new Float32Array(height * side * 3);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < side; x++) {
        const { first, weights } = across[x];
        for (let c = 0; c < 3; c++) {
          let sum = 0;
          for (let k = 0; k < weights.length; k++) {
            sum += weights[k] * from[(y * width + first + k) * channels + c];
          }
          half[(y * side + x) * 3 + c] = sum;
        }
      }
    }
    const out = new Uint8ClampedArray(side * side * 3);
    for (let y = 0; y < side; y++) {
      const { first, weights } = down[y];
      for (let x = 0; x < side * 3; x++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += weights[k] * half[(first + k) * side * 3 + x];
        out[y * side * 3 + x] = sum;
      }
    }
    return new Uint8Array(out.buffer);
  }

  /**
   * A picture at the side that the encoder sees, resized as the program and PIL do it: with weights in
   * units of 2^-22, and rounded to bytes after each axis.
   * @param {ArrayLike<number>} from [own, own, 3] @returns {Uint8Array} [side, side, 3]
   */
  function view(from, own, side) {
    if (own === side) return Uint8Array.from(from);
    const whole = ({ first, weights }) => ({ first, weights: weights.map((w) => Math.floor(w * 2 ** 22 + 0.5)) });
    const places = taps(own, side, triangle).map(whole);
    const half = new Uint8Array(own * side * 3);
    const out = new Uint8Array(side * side * 3);
    const mix = (weights, at) => {
      const sum = weights.reduce((total, weight, k) => total + weight * at(k), 0);
      return Math.min(255, (sum + 2 ** 21) >> 22);
    };
    for (let y = 0; y < own; y++) {
      places.forEach(({ first, weights }, x) => {
        for (let c = 0; c < 3; c++) {
          half[(y * side + x) * 3 + c] = mix(weights, (k) => from[(y * own + first + k) * 3 + c]);
        }
      });
    }
    places.forEach(({ first, weights }, y) => {
      for (let at = 0; at < side * 3; at++) {
        out[y * side * 3 + at] = mix(weights, (k) => half[(first + k) * side * 3 + at]);
      }
    });
    return out;
  }

  /**
   * The middle square of something drawable, `side` pixels a side, transparency over white.
   * @param {CanvasImageSource} source @returns {Uint8Array} [side, side, 3]
   */
  function square(source, width, height, side) {
    const own = Math.min(width, height);
    const working = Math.min(own, Math.max(WORKING_SIDE, side));
    const canvas = document.createElement('canvas');
    canvas.width = canvas.height = working;
    const context = canvas.getContext('2d', { willReadFrequently: true });
    context.fillStyle = '#fff';
    context.fillRect(0, 0, working, working);
    context.imageSmoothingQuality = 'high';
    const [left, top] = [Math.floor((width - own) / 2), Math.floor((height - own) / 2)];
    context.drawImage(source, left, top, own, own, 0, 0, working, working);
    const { data } = context.getImageData(0, 0, working, working);
    return resized(data, working, working, 4, side);
  }

  /** The picture in a file. @param {Blob} file @param {number} side @returns {Promise<Uint8Array>} */
  async function open(file, side) {
    const name = file.name ? `“${file.name}”` : 'What you pasted';
    const url = URL.createObjectURL(file);
    try {
      // The browser reads its size before its pixels: what is huge is never decoded.
      const image = new Image();
      image.src = url;
      await new Promise((done, failed) => {
        image.onload = done;
        image.onerror = failed;
      }).catch(() => {
        throw new SodaError(`${name} is no picture that this browser can open.`);
      });
      const { naturalWidth: width, naturalHeight: height } = image;
      if (width * height > MOST_PIXELS) {
        const [has, most] = [Math.round((width * height) / 1e6), MOST_PIXELS / 1e6];
        throw new SodaError(`${name} has ${has} million pixels: this page takes up to ${most} million.`);
      }
      if (Math.min(width, height) < 8) {
        throw new SodaError(`${name} is smaller than 8 x 8 pixels: too small to make sense of.`);
      }
      try {
        return square(image, width, height, side);
      } catch {
        throw new SodaError(`There is too little memory to open ${name.replace('What', 'what')}.`);
      }
    } finally {
      URL.revokeObjectURL(url);
    }
  }

  return { open, square, view };
})();
if (typeof module !== 'undefined') module.exports = globalThis.SodaPicture;
