'use strict';
// Times the plan's kernels and the networks on the visitor's GPU, and reports as `soda bench --json` does.
// Needs tensors.js, sampler.js and networks.js.

globalThis.SodaBench = (() => {
  const { count } = globalThis.SodaTensors;
  const S = globalThis.SodaSampler;
  const { Cancelled, frame } = globalThis.SodaNetworks;

  /** Timed samples of a case. */
  const SAMPLES = 5;
  /** Seconds of a sample, about: clocks of browsers tick coarsely, and waiting for the GPU takes its time. */
  const SAMPLE = 0.08;
  /** Seconds of one submission at most, as far as repetitions go. */
  const LONGEST = 0.3;
  /** Seconds of one run above which a case is left out. */
  const TOO_LONG = 2;
  /** Seconds after which no case begins: a real GPU needs a fraction of that. */
  const BUDGET = 90;

  /** The median, quartiles by linear interpolation, and the ends. @param {number[]} samples seconds */
  function timing(samples) {
    const sorted = [...samples].sort((a, b) => a - b);
    const quantile = (q) => {
      const at = q * (sorted.length - 1);
      const [low, high] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
      return low + (high - low) * (at % 1);
    };
    const median = quantile(0.5);
    return { median, spread: (quantile(0.75) - quantile(0.25)) / median, min: sorted[0], max: sorted.at(-1) };
  }

  /** Standard normal numbers, of which large inputs get a block again and again. */
  function normals(n) {
    const block = new S.Stream(3, S.PURPOSE.sampling, 0).normals(Math.min(n, 1 << 16));
    const out = new Float32Array(n);
    for (let at = 0; at < n; at += block.length) out.set(block.subarray(0, n - at), at);
    return out;
  }

  /** What the page knows of the GPU, as `soda bench` names places. @param {any} networks */
  function place(networks) {
    const adapter = networks.adapterName();
    const software = networks.player.info.isFallbackAdapter || /swiftshader|llvmpipe|basic render/i.test(adapter);
    return {
      device: 'webgpu', backend: 'webgpu', adapter, kind: software ? 'software, no GPU' : 'GPU of unknown kind',
    };
  }

  /** @param {any} of a place */
  function emptyRow(op, of) {
    return {
      op, ...of, shape: null, variant: null, width: null, batch: null, precision: 'f32', median_ms: null,
      spread: null, min_ms: null, max_ms: null, repetitions: null, gb_per_s: null, tflops: null,
      share_of_peak: null, images_per_s: null, launches: null, host: null, peak_memory_mib: null,
      cold_start_s: null, parameters: null,
    };
  }

  /** What is to be measured: peaks first, as the rest is held against them. @param {any} networks */
  function cases({ page: { bench, plan }, model }) {
    const networkCase = (op, batch) => (
      { op, pass: `${op}_${batch}`, batch, width: model.base, variant: model.name, shape: null });
    const steps = [networkCase('denoise', 1), networkCase('denoise', 8), networkCase('encode', 8)]
      .filter(({ pass }) => plan.passes[pass]);
    return bench ? [bench.copy, bench.multiply_add, ...steps, ...bench.cases] : steps;
  }

  /** Seconds of one run, five times. @returns {Promise<number[] | string>} or why there are none */
  async function measure(player, pass, token) {
    const take = async (times) => {
      await frame();
      if (token.cancelled) throw new Cancelled();
      return player.time(pass, times);
    };
    // Makes the buffers and warms the GPU up.
    let [times, taken] = [1, await take(1)];
    if (taken > TOO_LONG) return `one run takes ${taken.toFixed(1)} s, and browsers stop GPUs that work for long`;
    for (taken = await take(1); taken < SAMPLE / 2 && times < 1 << 14;) {
      times = Math.ceil(times * Math.min(8, Math.max(2, SAMPLE / Math.max(taken, 1e-3))));
      taken = await take(times);
    }
    times = Math.max(1, Math.min(times, Math.floor((times * LONGEST) / taken)));
    const samples = [];
    while (samples.length < SAMPLES) samples.push(await take(times) / times);
    return samples;
  }

  /**
   * Measures everything.
   * @param {any} networks
   * @param {object} [how]
   * @param {{cancelled: boolean}} [how.token]
   * @param {number} [how.seconds] after which nothing new begins
   * @param {(done: number, all: number) => void} [how.onCompile]
   * @param {(done: number, all: number, op: string) => void} [how.onCase]
   * @param {(row: any) => void} [how.onRow]
   * @param {(skipped: any) => void} [how.onSkipped]
   * @returns {Promise<any>} what `soda bench --json` writes
   */
  async function run(networks, how = {}) {
    const none = () => {};
    const { token = { cancelled: false }, seconds = BUDGET } = how;
    const { onCompile = none, onCase = none, onRow = none, onSkipped = none } = how;
    const { player, page, model } = networks;
    const [start, of, all] = [performance.now(), place(networks), cases(networks)];
    const [rows, skipped, peak] = [[], [], { bytes: null, operations: null }];
    const skip = ({ op, shape, width, batch, variant }, reason) => {
      // As the program names rows.
      const sizes = shape ? shape.join('x') : `width ${width}, batch ${batch}`;
      skipped.push({ device: of.device, op: [op, sizes, variant].filter((part) => part).join(' '), reason });
      onSkipped(skipped.at(-1));
    };
    await player.compile(all.map(({ pass }) => pass), onCompile);
    const begun = performance.now();
    for (const [i, one] of all.entries()) {
      onCase(i, all.length, one.op);
      if (token.cancelled) throw new Cancelled();
      const [bytes, operations] = [one.bytes || null, one.operations || null];
      // The least time that the peaks, which come first, allow.
      const least = Math.max(bytes && peak.bytes ? bytes / peak.bytes : 0,
        operations && peak.operations ? operations / peak.operations : 0);
      if ((performance.now() - begun) / 1e3 > seconds) {
        skip(one, `the ${seconds} s for everything are over`);
        continue;
      }
      if (least > TOO_LONG) {
        skip(one, `one run would take ${least.toFixed(1)} s or more`);
        continue;
      }
      // Its buffers may be in use by the page: only the benchmark's own are freed.
      const own = one.batch === undefined;
      try {
        const { inputs } = player.pass(one.pass);
        const filled = Object.entries(inputs).map(([name, { shape }]) => [name, normals(count(shape))]);
        await player.load(one.pass, Object.fromEntries(filled));
        const samples = await measure(player, one.pass, token);
        if (typeof samples === 'string') {
          skip(one, samples);
          continue;
        }
        const { median, spread, min, max } = timing(samples);
        if (one === page.bench?.copy) peak.bytes = bytes / median;
        if (one === page.bench?.multiply_add) peak.operations = operations / median;
        const isPeak = one === page.bench?.copy || one === page.bench?.multiply_add;
        rows.push({
          ...emptyRow(one.op, of),
          shape: one.shape, variant: one.variant, width: one.width ?? null, batch: one.batch ?? null,
          median_ms: median * 1e3, spread, min_ms: min * 1e3, max_ms: max * 1e3, repetitions: SAMPLES,
          gb_per_s: bytes && one !== page.bench?.multiply_add ? bytes / median / 1e9 : null,
          tflops: operations ? operations / median / 1e12 : null,
          share_of_peak: !isPeak && least > 0 ? least / median : null,
          images_per_s: one.batch ? one.batch / median : null,
          launches: one.batch ? player.pass(one.pass).dispatches.length : null,
        });
        onRow(rows.at(-1));
      } finally {
        if (own) player.forget(one.pass);
      }
    }
    const system = navigator.userAgentData?.platform || navigator.platform || null;
    return {
      command: 'bench', version: page.program, commit: page.commit, device: 'webgpu', adapter: of.adapter,
      machine: { os: system, arch: null, cpu: null, threads: navigator.hardwareConcurrency ?? null, memory_mib: null },
      browser: navigator.userAgent, weights: { name: model.name, sha256: model.sha256 }, budget_s: seconds, rows,
      skipped, seconds: (performance.now() - start) / 1e3,
    };
  }

  return { run, timing };
})();
if (typeof module !== 'undefined') module.exports = globalThis.SodaBench;
