'use strict';
// What SODA does around its networks: random streams, noise schedule, samplers, guidance, the linear
// decoder, the latent prior and mixing. The program's numbers, up to rounding. Needs tensors.js.

globalThis.SodaSampler = (() => {
  const { fround, sqrt, log, exp, cos, sin, abs, min, max, round } = Math;

  // ---- Random streams (src/rng.rs): xoshiro256++, one stream for each seed, purpose and index.

  const U64 = (1n << 64n) - 1n;
  /** What a stream is drawn for, as far as the page draws. */
  const PURPOSE = { sampling: 8, latent: 12 };
  /** The index of a stream that belongs to no step. */
  const LAST = U64;

  /** SplitMix64's finaliser. @param {bigint} x */
  function mixBits(x) {
    x = ((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n) & U64;
    x = ((x ^ (x >> 27n)) * 0x94d049bb133111ebn) & U64;
    return x ^ (x >> 31n);
  }

  /** One index out of two. @returns {bigint} */
  function pair(a, b) {
    return mixBits(((BigInt(a) * 0x9e3779b97f4a7c15n) & U64) ^ BigInt(b));
  }

  /** The generator, as pairs of 32-bit halves: many times as fast as BigInt. */
  class Stream {
    /** @param {number | bigint} seed @param {number} purpose @param {number | bigint} index */
    constructor(seed, purpose, index) {
      this.state = new Int32Array(8);
      [seed, purpose, index, 0x5eed50da].forEach((word, i) => {
        const mixed = mixBits(BigInt(word) ^ 0x9e3779b97f4a7c15n);
        this.state[2 * i] = Number(mixed & 0xffffffffn);
        this.state[2 * i + 1] = Number(mixed >> 32n);
      });
      /** The halves of the last number. */
      this.low = 0;
      this.high = 0;
      for (let i = 0; i < 8; i++) this.next();
    }

    /** Draws 64 bits into `low` and `high`. */
    next() {
      const s = this.state;
      const [l0, h0, l1, h1, l3, h3] = [s[0], s[1], s[2], s[3], s[6], s[7]];
      // rotl(s0 + s3, 23) + s0
      let low = (l0 + l3) | 0;
      let high = (h0 + h3 + (low >>> 0 < l0 >>> 0)) | 0;
      [low, high] = [(low << 23) | (high >>> 9), (high << 23) | (low >>> 9)];
      const sum = (low + l0) | 0;
      this.high = (high + h0 + (sum >>> 0 < l0 >>> 0)) >>> 0;
      this.low = sum >>> 0;
      // The state: t = s1 << 17.
      const [tl, th] = [l1 << 17, (h1 << 17) | (l1 >>> 15)];
      s[4] ^= l0; s[5] ^= h0;
      s[6] ^= l1; s[7] ^= h1;
      s[2] ^= s[4]; s[3] ^= s[5];
      s[0] ^= s[6]; s[1] ^= s[7];
      s[4] ^= tl; s[5] ^= th;
      // rotl(s3, 45) is rotl by 13 of the exchanged halves.
      [low, high] = [s[7], s[6]];
      s[6] = (low << 13) | (high >>> 19);
      s[7] = (high << 13) | (low >>> 19);
    }

    /** Uniform in [0, 1), of 32-bit precision. */
    uniform() {
      this.next();
      return (this.high >>> 8) * 2 ** -24;
    }

    /** Uniform in [0, 1). */
    uniform64() {
      this.next();
      return (this.high * 2 ** 21 + (this.low >>> 11)) * 2 ** -53;
    }

    /** Uniform in (0, 1). */
    open() {
      this.next();
      return (this.high * 2 ** 20 + (this.low >>> 12)) * 2 ** -52 + 2 ** -53;
    }

    /** One draw of N(0, 1): the ziggurat of Doornik 2005, as rand_distr has it. */
    normal() {
      for (;;) {
        this.next();
        const i = this.low & 0xff;
        const u = (this.high * 2 ** 20 + (this.low >>> 12)) * 2 ** -51 - 1;
        const x = u * ZIGGURAT.x[i];
        if (abs(x) < ZIGGURAT.x[i + 1]) return x;
        if (i === 0) return this.tail(u);
        const [above, below] = [ZIGGURAT.f[i], ZIGGURAT.f[i + 1]];
        if (below + (above - below) * this.uniform64() < exp((-x * x) / 2)) return x;
      }
    }

    /** A draw beyond the ziggurat's last box. @param {number} u */
    tail(u) {
      let [x, y] = [1, 0];
      while (-2 * y < x * x) {
        x = log(this.open()) / ZIGGURAT.r;
        y = log(this.open());
      }
      return u < 0 ? x - ZIGGURAT.r : ZIGGURAT.r - x;
    }

    /** `n` draws of N(0, 1). @param {number} n */
    normals(n) {
      return Float32Array.from({ length: n }, () => this.normal());
    }
  }

  /** 256 boxes of equal area under exp(-x^2 / 2), from the widest up. */
  const ZIGGURAT = (() => {
    const [r, area, n] = [3.654152885361009, 0.00492867323399, 256];
    const [x, f] = [new Float64Array(n + 1), new Float64Array(n + 1)];
    const density = (v) => exp((-v * v) / 2);
    x[0] = area / density(r);
    x[1] = r;
    for (let i = 2; i < n; i++) x[i] = sqrt(-2 * log(area / x[i - 1] + density(x[i - 1])));
    for (let i = 0; i <= n; i++) f[i] = density(x[i]);
    return { r, x, f };
  })();

  // ---- The noise schedule and its times (src/diffusion).

  /** alpha_bar at which the program's schedules end, so that nothing is divided by 0. */
  const FLOOR = 1e-4;

  /** Half the logarithm of the signal-to-noise ratio. @param {number} a alpha_bar */
  const lambda = (a) => 0.5 * log(a / (1 - a));

  /**
   * @typedef {{alphaBar: Float64Array, prediction: 'eps' | 'v', beginsAtPureNoise: boolean}} Schedule
   * alphaBar of t = 0..T, of which the first is 1
   */

  /** The middles of `steps` equal parts of 0..=n, falling. */
  function middles(n, steps) {
    const parts = min(max(steps, 1), n);
    return Array.from({ length: parts }, (_, i) => n - Math.floor(((2 * i + 1) * n) / (2 * parts)));
  }

  /** `steps` times from the level `from` down to 1, about equally far apart in lambda. */
  function logSnrTimes({ alphaBar }, from, steps) {
    const parts = min(max(steps, 1), from);
    let above = from;
    while (above > 1 && alphaBar[above] <= FLOOR) above--;
    if (alphaBar[above] <= FLOOR) above = from;
    const first = max(above, parts);
    const level = (t) => lambda(alphaBar[t]);
    const spacing = (level(1) - level(first)) / max(parts - 1, 1);
    const times = [first];
    for (let i = 1; i < parts; i++) {
      const wanted = level(first) + spacing * i;
      // Levels are few where the schedule is steep: a time of its own for each step.
      let best = parts - i;
      for (let t = best + 1; t < times[i - 1]; t++) {
        if (abs(level(t) - wanted) < abs(level(best) - wanted)) best = t;
      }
      times.push(best);
    }
    return times;
  }

  /** The times of a sampler. @param {Schedule} schedule @param {number | null} startLevel */
  function times(schedule, sampler, steps, startLevel) {
    const last = schedule.alphaBar.length - 1;
    if (startLevel !== null) return logSnrTimes(schedule, startLevel, steps);
    const solver = sampler === 'dpm-solver';
    if (schedule.beginsAtPureNoise) {
      const rest = min(steps, last) - 1;
      if (rest === 0) return [last];
      return [last, ...(solver ? logSnrTimes(schedule, last - 1, rest) : middles(last - 1, rest))];
    }
    return solver ? logSnrTimes(schedule, last, steps) : middles(last, steps);
  }

  /** Sines, then cosines, that tell the denoiser the time t of T. @returns {Float32Array} */
  function waves(t, { alphaBar }, base, timeScale) {
    const [half, angle] = [base / 2, fround(fround(t / (alphaBar.length - 1)) * fround(timeScale))];
    const out = new Float32Array(base);
    const step = -log(10000) / (max(half, 2) - 1);
    for (let i = 0; i < half; i++) {
      const a = fround(angle * fround(exp(step * i)));
      out[i] = sin(a);
      out[half + i] = cos(a);
    }
    return out;
  }

  // ---- Samplers (src/diffusion/sampler), over numbers of any shape.

  /** x_0 that the denoiser's output means. @param {Schedule} schedule */
  function cleaned({ prediction }, x, output, a, clip) {
    const [signal, sigma] = [sqrt(a), sqrt(1 - a)];
    const of = prediction === 'v'
      ? (i) => x[i] * signal - output[i] * sigma
      : (i) => (x[i] - output[i] * sigma) / signal;
    return Float32Array.from(x, (_, i) => (clip ? min(max(of(i), -1), 1) : of(i)));
  }

  /** The noise that the denoiser's output means. @param {Schedule} schedule */
  function noiseIn({ prediction }, x, output, a) {
    if (prediction !== 'v') return output;
    const [signal, sigma] = [sqrt(a), sqrt(1 - a)];
    return Float32Array.from(x, (v, i) => v * sigma + output[i] * signal);
  }

  /** Adds the noise of the step away from t, the same one for each of `copies` equal parts of x. */
  function addNoise(x, sigma, seed, t, copies) {
    const [own, stream] = [x.length / copies, new Stream(seed, PURPOSE.sampling, t)];
    const noise = stream.normals(own);
    for (let i = 0; i < x.length; i++) x[i] += noise[i % own] * sigma;
  }

  /**
   * From x_t to x_0.
   * @param {Schedule} schedule @param {Float32Array} start
   * @param {{sampler: string, steps: number, eta: number, clipX0: boolean, startLevel: number | null,
   *   seed: number | bigint, copies?: number}} settings `copies`: how many equal parts of x get the same noise
   * @param {(x: Float32Array, t: number) => Promise<Float32Array>} predict
   * @param {(step: {i: number, of: number, t: number, x0: Float32Array, x: Float32Array}) => any} [onStep]
   * @returns {Promise<Float32Array>}
   */
  async function sample(schedule, start, settings, predict, onStep = () => {}) {
    const { sampler, steps, eta, clipX0, startLevel, seed, copies = 1 } = settings;
    const all = times(schedule, sampler, steps, startLevel);
    let x = start;
    let before = null;
    for (const [i, t] of all.entries()) {
      const [a, next] = [schedule.alphaBar[t], all[i + 1] ?? 0];
      const aNext = schedule.alphaBar[next];
      const output = await predict(x, t);
      const x0 = cleaned(schedule, x, output, a, clipX0);
      const moved = new Float32Array(x.length);
      let sigma = 0;
      if (sampler === 'ddim') {
        const eps = clipX0
          ? Float32Array.from(x, (v, k) => (v - x0[k] * sqrt(a)) / sqrt(1 - a))
          : noiseIn(schedule, x, output, a);
        sigma = eta * sqrt(max(((1 - aNext) / (1 - a)) * (1 - a / aNext), 0));
        const [ofImage, ofNoise] = [sqrt(aNext), sqrt(max(1 - aNext - sigma * sigma, 0))];
        for (let k = 0; k < x.length; k++) moved[k] = x0[k] * ofImage + eps[k] * ofNoise;
      } else if (sampler === 'ddpm') {
        const alpha = a / aNext;
        const ofImage = (sqrt(aNext) * (1 - alpha)) / (1 - a);
        const ofX = (sqrt(alpha) * (1 - aNext)) / (1 - a);
        sigma = sqrt(max(((1 - alpha) * (1 - aNext)) / (1 - a), 0));
        for (let k = 0; k < x.length; k++) moved[k] = x0[k] * ofImage + x[k] * ofX;
      } else {
        const shrink = sqrt((1 - aNext) / (1 - a));
        const ofImage = sqrt(aNext) - shrink * sqrt(a);
        const h = lambda(aNext) - lambda(a);
        // The second order: x_0 extrapolated to the middle of the step.
        const ahead = before && next > 0 && before.h > 0 ? h / (2 * before.h) : 0;
        for (let k = 0; k < x.length; k++) {
          const target = ahead ? x0[k] + (x0[k] - before.x0[k]) * ahead : x0[k];
          moved[k] = x[k] * shrink + target * ofImage;
        }
        before = { x0, h };
      }
      if (sigma > 0) addNoise(moved, sigma, seed, t, copies);
      x = moved;
      await onStep({ i: i + 1, of: all.length, t, x0, x });
    }
    return x;
  }

  // ---- z and the denoiser (src/edit, src/diffusion/guidance.rs).

  /** Parts of what the denoiser takes, by stage: sections of z, or z once for each stage. */
  function parts({ sections, stages, z_dim: length, z_width: width }) {
    if (width === length) return sections;
    return Array.from({ length: stages }, (_, i) => [i * length, (i + 1) * length]);
  }

  /** What the denoiser takes for one z. @param {Float32Array} z @returns {Float32Array} */
  function byStage(model, z) {
    const out = new Float32Array(model.z_width);
    for (let at = 0; at < out.length; at += z.length) out.set(z, at);
    return out;
  }

  /** Own parts but those in `chosen`, which are theirs; both as the denoiser takes them. */
  function mix(model, own, theirs, chosen) {
    const out = own.slice();
    for (const i of chosen) {
      const [from, to] = parts(model)[i];
      out.set(theirs.subarray(from, to), from);
    }
    return out;
  }

  /** The parts of z that guidance strengthens, with their weights. */
  function guidanceParts({ sections, z_width: width }, guidance) {
    const all = Array.isArray(guidance) && guidance.length > 1
      ? guidance.map((weight, i) => ({ weight, from: sections[i][0], to: sections[i][1] }))
      : [{ weight: Number(guidance), from: 0, to: width }];
    return all.filter(({ weight }) => weight !== 0);
  }

  /**
   * The guided prediction for images with these z, from evaluations of the denoiser.
   * @param {Float32Array[]} z
   * @param {(x: Float32Array[], z: Float32Array[], t: number) => Promise<Float32Array[]>} evaluate
   */
  function guided(model, guidance, z, evaluate) {
    const strengthened = guidanceParts(model, guidance);
    const without = strengthened.flatMap(({ from, to }) => z.map((one) => one.slice().fill(0, from, to)));
    const total = 1 + strengthened.reduce((sum, { weight }) => sum + weight, 0);
    return async (x, t) => {
      const size = x.length / z.length;
      const images = z.map((_, i) => x.subarray(i * size, (i + 1) * size));
      const rows = [images, ...strengthened.map(() => images)].flat();
      const outputs = await evaluate(rows, [...z, ...without], t);
      const out = new Float32Array(x.length);
      outputs.forEach((output, row) => {
        const [at, part] = [(row % z.length) * size, Math.floor(row / z.length)];
        const weight = part === 0 ? total : -strengthened[part - 1].weight;
        for (let k = 0; k < size; k++) out[at + k] += weight * output[k];
      });
      return out;
    };
  }

  /** Noise to begin with of image number i: [3, side, side]. */
  function noiseOf(i, size, seed) {
    return new Stream(pair(seed, i), PURPOSE.sampling, 0).normals(size);
  }

  // ---- The linear decoder (src/edit/linear_decoder.rs), the mean picture of a z.

  class LinearDecoder {
    /** @param {number} side @param {Float32Array} map @param {Float32Array} components */
    constructor(side, map, components, detail) {
      Object.assign(this, { side, map, components, detail });
      this.size = 3 * side * side;
      this.zDim = map.length / this.size - 1;
    }

    /** @param {Float32Array} sum */
    addScaled(sum, rows, weights) {
      weights.forEach((weight, i) => {
        for (let k = 0, at = i * this.size; k < sum.length; k++) sum[k] += weight * rows[at + k];
      });
      return sum;
    }

    /** The picture of z: [3, side, side], not clipped. Of a z for each stage the middle's counts. */
    mean(z) {
      const bias = this.map.slice(this.zDim * this.size);
      return this.addScaled(bias, this.map, z.subarray(z.length - this.zDim));
    }

    /** What the mean lacks, drawn for image number i. */
    residual(i, seed) {
      const stream = new Stream(pair(seed, i), PURPOSE.sampling, LAST);
      const weights = stream.normals(this.components.length / this.size);
      return this.addScaled(new Float32Array(this.size), this.components, weights);
    }

    /** A picture within [-1, 1], at `side` pixels a side. */
    at(picture, side) {
      if (side === this.side) return picture.map((v) => min(max(v, -1), 1));
      const bytes = picture.map((v) => min(max(round((v + 1) * 127.5), 0), 255));
      return enlarged(bytes, this.side, side).map((v) => v / 127.5 - 1);
    }

    /** A drawn image with the detail that training views lack. */
    detailed(image, side) {
      if (this.detail.every((gain) => gain === 1)) return image;
      const [cosines, area, last] = [cosineRows(side), side * side, this.detail.length - 1];
      const gain = (at) => this.detail[min(last, round(Math.hypot(Math.floor(at / side), at % side) / 2))];
      const out = new Float32Array(image.length);
      for (let plane = 0; plane < image.length; plane += area) {
        const wave = sandwich(image.subarray(plane, plane + area), cosines, side, false);
        const back = sandwich(wave.map((v, at) => v * gain(at)), cosines, side, true);
        out.set(back.map((v) => min(max(v, -1), 1)), plane);
      }
      return out;
    }
  }

  /** Bytes [3, own, own] at `side` pixels a side, bilinearly with half-pixel centres. */
  function enlarged(bytes, own, side) {
    const taps = Array.from({ length: side }, (_, i) => {
      const place = min(max(((i + 0.5) * own) / side - 0.5, 0), own - 1);
      const low = Math.floor(place);
      return [low, min(low + 1, own - 1), place - low];
    });
    const out = new Float32Array(3 * side * side);
    for (let c = 0, k = 0; c < 3; c++) {
      for (const [top, bottom, down] of taps) {
        for (const [left, right, along] of taps) {
          const at = (row) => {
            const start = (c * own + row) * own;
            return round(bytes[start + left] * (1 - along) + bytes[start + right] * along);
          };
          out[k++] = round(at(top) * (1 - down) + at(bottom) * down);
        }
      }
    }
    return out;
  }

  /** Rows of the orthonormal DCT-II (src/eval/spectrum.rs). */
  function cosineRows(n) {
    return Float32Array.from({ length: n * n }, (_, at) => {
      const [u, i] = [Math.floor(at / n), at % n];
      return sqrt((u === 0 ? 1 : 2) / n) * cos((Math.PI * (2 * i + 1) * u) / (2 * n));
    });
  }

  /** m x m^T, or m^T x m. */
  function sandwich(x, m, n, transposed) {
    const at = transposed ? (row, k) => m[k * n + row] : (row, k) => m[row * n + k];
    const product = (value) => {
      const out = new Float32Array(n * n);
      for (let row = 0; row < n; row++) {
        for (let column = 0; column < n; column++) {
          let sum = 0;
          for (let k = 0; k < n; k++) sum += value(row, column, k);
          out[row * n + column] = sum;
        }
      }
      return out;
    };
    const half = product((row, column, k) => at(row, k) * x[k * n + column]);
    return product((row, column, k) => half[row * n + k] * at(column, k));
  }

  // ---- The latent prior (src/edit/mixture.rs).

  /**
   * Draw number i of z: mean + temperature L eps of one of the Gaussians.
   * @param {{weights: Float32Array, means: Float32Array, factors: Float32Array}} prior
   * @returns {Float32Array}
   */
  function drawZ({ weights, means, factors }, i, seed, temperature = 1) {
    const stream = new Stream(seed, PURPOSE.latent, i);
    let rest = stream.uniform();
    let k = weights.findIndex((weight) => {
      rest = fround(rest - weight);
      return rest < 0;
    });
    // Rounding may leave the sum a little below 1.
    if (k < 0) k = weights.indexOf(max(...weights));
    const dim = means.length / weights.length;
    const eps = stream.normals(dim);
    return Float32Array.from({ length: dim }, (_, row) => {
      const at = (k * dim + row) * dim;
      let sum = 0;
      for (let j = 0; j < dim; j++) sum += factors[at + j] * eps[j];
      return means[k * dim + row] + temperature * sum;
    });
  }

  return {
    PURPOSE, Stream, pair, times, waves, sample, parts, byStage, mix, guidanceParts, guided, noiseOf,
    LinearDecoder, enlarged, drawZ,
  };
})();
if (typeof module !== 'undefined') module.exports = globalThis.SodaSampler;
