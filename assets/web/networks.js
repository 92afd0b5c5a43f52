'use strict';
// Encoder and denoiser of a page: images to z, z to images, and what the page knows of its training images.
// Needs tensors.js and sampler.js; the player that it is given runs the passes.

globalThis.SodaNetworks = (() => {
  const { SodaError } = globalThis.SodaTensors;
  const S = globalThis.SodaSampler;

  /** Seconds of a submission above which a batch is too slow: browsers stop GPUs that work for long. */
  const LONGEST = 0.3;
  /** Images of the larger batch. */
  const EIGHT = 8;

  /** Thrown where somebody cancelled; nothing went wrong. */
  class Cancelled extends Error {}

  /** Lets the page draw a frame. Hidden pages draw none, and go on anyway. */
  function frame() {
    return new Promise((done) => {
      const timer = setTimeout(done, 100);
      requestAnimationFrame(() => {
        clearTimeout(timer);
        setTimeout(done, 0);
      });
    });
  }

  /** [side, side, 3] to [3, side, side], or back. @param {ArrayLike<number>} from */
  function planes(from, back = false) {
    const [out, area] = [new Float32Array(from.length), from.length / 3];
    for (let p = 0; p < area; p++) {
      for (let c = 0; c < 3; c++) {
        if (back) out[3 * p + c] = from[c * area + p];
        else out[c * area + p] = from[3 * p + c];
      }
    }
    return out;
  }

  /** Bytes [side, side, 3] of an image [3, side, side] in [-1, 1]. @returns {Uint8ClampedArray} */
  const toBytes = (image) => Uint8ClampedArray.from(planes(image, true), (v) => (v + 1) * 127.5);

  class Networks {
    /** @param {any} page the page's JSON @param {any} tensors @param {any} player */
    constructor(page, tensors, player) {
      const { model } = page;
      Object.assign(this, { page, model, tensors, player });
      this.schedule = {
        alphaBar: tensors.get('alpha_bar'),
        prediction: model.prediction,
        beginsAtPureNoise: model.begins_at_pure_noise,
      };
      this.linear = page.linear && new S.LinearDecoder(
        page.linear.side,
        tensors.get('linear.map'),
        tensors.has('linear.components') ? tensors.get('linear.components') : new Float32Array(0),
        tensors.get('linear.detail'),
      );
      this.prior = page.prior && {
        weights: tensors.get('prior.weights'),
        means: tensors.get('prior.means'),
        factors: tensors.get('prior.factors'),
      };
      this.units = page.directions?.length ? tensors.get('directions.unit') : new Float32Array(0);
      this.gallery = page.gallery && {
        ...page.gallery, pixels: tensors.get('gallery.pixels'), z: tensors.get('gallery.z'),
      };
      /** Seconds of one evaluation by batch, the fastest so far; none before it was timed. */
      this.seconds = { 1: null, 8: null };
      this.warm = { 1: false, 8: false };
    }

    /** What the browser tells of the GPU. */
    adapterName() {
      const { vendor, architecture, device, description } = this.player.info;
      const parts = [vendor, architecture, device].filter((part) => part);
      return description || parts.join(' ') || 'a GPU that the browser doesn\'t name';
    }

    /** Values of a drawn image. */
    get size() {
      return 3 * this.model.target_side ** 2;
    }

    /** z of bytes [own, own, 3] of any side, which the encoder sees at its own. @param {ArrayLike<number>} pixels */
    async encode(pixels) {
      const { mean, std, source_side: side, normalise_z: normalise } = this.model;
      const own = Math.round(Math.sqrt(pixels.length / 3));
      if (own === 0 || pixels.length !== 3 * own * own) {
        throw new SodaError('The encoder takes square images.');
      }
      const image = Float32Array.from(globalThis.SodaPicture.view(pixels, own, side), (v, i) => (v / 255 - mean[i % 3]) / std[i % 3]);
      const { z } = await this.player.run('encode_1', { image });
      if (!z.every(Number.isFinite)) {
        throw new SodaError('The GPU calculates wrongly: the encoder put out what is no number.');
      }
      if (!normalise) return z;
      const scale = Math.sqrt(z.reduce((sum, v) => sum + v * v, 0) / z.length + 1e-12);
      return z.map((v) => v / scale);
    }

    /** The picture that the linear decoder makes of z at once: blurred; none without one. */
    preview(z) {
      return this.linear?.at(this.linear.mean(z), this.model.target_side) ?? null;
    }

    /** z moved by `places` deviations along each direction. @param {number[]} places */
    moved(z, places) {
      const out = z.slice();
      places.forEach((place, d) => {
        if (place === 0) return;
        const by = place * this.page.directions[d].deviation;
        for (let i = 0; i < out.length; i++) out[i] += by * this.units[d * out.length + i];
      });
      return out;
    }

    /**
     * The gallery's images by falling cosine of their z and this one.
     * @param {Float32Array} z @param {number} k @param {number | null} except an image that isn't its own neighbour
     * @returns {{index: number, cosine: number, distance: number}[]} distance of the normalised z
     */
    nearest(z, k, except = null) {
      const { count, z: all } = this.gallery;
      const norm = (v) => Math.max(Math.sqrt(v.reduce((sum, x) => sum + x * x, 0)), 1e-12);
      const own = norm(z);
      const found = [];
      for (let index = 0; index < count; index++) {
        if (index === except) continue;
        const other = all.subarray(index * z.length, (index + 1) * z.length);
        let dot = 0;
        for (let i = 0; i < z.length; i++) dot += z[i] * other[i];
        const cosine = dot / (own * norm(other));
        found.push({ index, cosine, distance: Math.sqrt(Math.max(2 - 2 * cosine, 0)) });
      }
      return found.sort((a, b) => b.cosine - a.cosine || a.index - b.index).slice(0, k);
    }

    /** z number i of the latent prior. @returns {Float32Array} */
    drawZ(i, seed) {
      return S.drawZ(this.prior, i, seed);
    }

    /**
     * Images of z, all of them a step further at a time.
     * @param {Float32Array[]} zs as the denoiser takes them, see SodaSampler.byStage
     * @param {object} [how]
     * @param {number | bigint} [how.seed]
     * @param {boolean} [how.same] all begin with the noise of image 0: what differs comes from z
     * @param {boolean} [how.varied] begin with one of the pictures that z may stand for, not with their mean
     * @param {number} [how.steps] instead of the weights' own
     * @param {{cancelled: boolean}} [how.token]
     * @param {(x: Float32Array[]) => any} [how.onStart]
     * @param {(step: {i: number, of: number, x: Float32Array[], x0: Float32Array[]}) => any} [how.onStep]
     * @returns {Promise<Float32Array[]>} [3, side, side] in [-1, 1]
     */
    async draw(zs, how = {}) {
      const { seed = 0, same = false, varied = false } = how;
      const { token = { cancelled: false }, onStep = () => {}, onStart = () => {} } = how;
      const { sampler, eta, guidance, clip_x0: clipX0, start_level: start, ...own } = this.model.sample;
      const startLevel = this.linear ? start : null;
      const x = new Float32Array(zs.length * this.size);
      zs.forEach((z, i) => x.set(this.begin(z, same ? 0 : i, seed, startLevel, varied), i * this.size));
      const split = (all) => zs.map((_, i) => all.subarray(i * this.size, (i + 1) * this.size));
      onStart(split(x));
      const settings = {
        sampler, eta, clipX0, startLevel, steps: how.steps ?? own.steps,
        seed: S.pair(seed, 0), copies: same ? zs.length : 1,
      };
      const evaluate = (xs, z, t) => this.evaluate(xs, z, t, token);
      const out = await S.sample(
        this.schedule, x, settings, S.guided(this.model, guidance, zs, evaluate),
        (step) => onStep({ ...step, x: split(step.x), x0: split(step.x0) }),
      );
      const images = split(out.map((v) => Math.min(Math.max(v, -1), 1)));
      if (startLevel === null) return images;
      return images.map((image) => this.linear.detailed(image, this.model.target_side));
    }

    /** What image number i begins with: noise, over the picture of z where the weights begin there. */
    begin(z, i, seed, startLevel, varied) {
      const noise = S.noiseOf(i, this.size, seed);
      if (startLevel === null) return noise;
      const picture = this.linear.mean(z);
      if (varied) this.linear.residual(i, seed).forEach((v, k) => { picture[k] += v; });
      const a = this.schedule.alphaBar[startLevel];
      const [signal, sigma] = [Math.sqrt(a), Math.sqrt(1 - a)];
      const image = this.linear.at(picture, this.model.target_side);
      return noise.map((eps, k) => signal * image[k] + sigma * eps);
    }

    /**
     * The denoiser's outputs, in batches that the GPU is fast enough for. A frame comes after each submission.
     * @param {Float32Array[]} xs @param {Float32Array[]} zs @param {number} t @returns {Promise<Float32Array[]>}
     */
    async evaluate(xs, zs, t, token) {
      const waves = S.waves(t, this.schedule, this.model.base, this.model.time_scale);
      const out = [];
      while (out.length < xs.length) {
        const left = xs.length - out.length;
        const batch = await this.batchFor(left);
        const rows = Array.from({ length: batch }, (_, i) => out.length + Math.min(i, left - 1));
        const join = (parts) => {
          const all = new Float32Array(parts.length * parts[0].length);
          parts.forEach((part, i) => all.set(part, i * part.length));
          return all;
        };
        const start = performance.now();
        const { prediction } = await this.player.run(`denoise_${batch}`, {
          x_t: join(rows.map((row) => planes(xs[row], true))),
          waves: join(rows.map(() => waves)),
          z: join(rows.map((row) => zs[row])),
        });
        this.timed(batch, (performance.now() - start) / 1e3);
        if (!Number.isFinite(prediction[0])) {
          throw new SodaError('The GPU calculates wrongly: the denoiser put out what is no number.');
        }
        for (let i = 0; i < Math.min(batch, left); i++) {
          out.push(planes(prediction.subarray(i * this.size, (i + 1) * this.size)));
        }
        await frame();
        if (token.cancelled) throw new Cancelled();
      }
      return out;
    }

    /** The first evaluation of a batch makes buffers too: it isn't counted. */
    timed(batch, seconds) {
      if (this.warm[batch]) this.seconds[batch] = Math.min(this.seconds[batch] ?? Infinity, seconds);
      this.warm[batch] = true;
    }

    /** Images of the next submission, of those that are left. @param {number} left */
    async batchFor(left) {
      const { 1: one, 8: eight } = this.seconds;
      // Large networks have no pass for eight.
      if (!this.page.plan.passes[`denoise_${EIGHT}`]) return 1;
      // Eight at once take no more than eight times as long: only fast GPUs get to try it.
      if (left < 2 || one === null || one > LONGEST / 2) return 1;
      if (eight === null) await this.player.compile([`denoise_${EIGHT}`]);
      else if (eight > LONGEST || eight > one * Math.min(left, EIGHT)) return 1;
      return left >= 3 || eight !== null ? EIGHT : 1;
    }
  }

  return { Networks, Cancelled, frame, planes, toBytes };
})();
if (typeof module !== 'undefined') module.exports = globalThis.SodaNetworks;
