'use strict';
// Tests of tensors.js, sampler.js, networks.js and picture.js without a browser: node test.cjs [REFERENCE.json]
// REFERENCE.json holds numbers that the program drew: {"normal": {"seed", "purpose", "index", "values"}, ..}.

const test = require('node:test');
const assert = require('node:assert');
const { createHash } = require('node:crypto');
const { readFileSync } = require('node:fs');
const { Tensors, SodaError, HALVES, decodeBlob } = require('./tensors.js');
const S = require('./sampler.js');

const mean = (v) => v.reduce((a, b) => a + b, 0) / v.length;
const deviation = (v) => Math.sqrt(mean(v.map((x) => x * x)) - mean(v) ** 2);
const largest = (v) => v.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
const apart = (a, b) => largest(Array.from(a, (v, i) => v - b[i]));

// ---- Random streams.

test('xoshiro256++ draws what its authors\' program draws', () => {
  const stream = new S.Stream(0, 0, 0);
  stream.state.set([1, 0, 2, 0, 3, 0, 4, 0]);
  const expected = [
    41943041n, 58720359n, 3588806011781223n, 3591011842654386n, 9228616714210784205n,
    9973669472204895162n, 14011001112246962877n, 12406186145184390807n, 15849039046786891736n,
    10450023813501588000n,
  ];
  for (const number of expected) {
    stream.next();
    assert.equal((BigInt(stream.high) << 32n) | BigInt(stream.low), number);
  }
});

test('streams repeat, and differ by seed, purpose and index', () => {
  const draw = (...key) => [...new S.Stream(...key).normals(4)];
  const first = draw(1, 8, 7);
  assert.deepEqual(draw(1n, 8, 7n), first);
  for (const key of [[2, 8, 7], [1, 12, 7], [1, 8, 8]]) assert.notDeepEqual(draw(...key), first);
});

test('normal draws have the moments of N(0, 1), the tail included', () => {
  const n = 400_000;
  const draws = new S.Stream(3, 8, 1).normals(n);
  assert(Math.abs(mean(draws)) < 5 / Math.sqrt(n));
  assert(Math.abs(deviation(draws) - 1) < 5 / Math.sqrt(2 * n));
  assert(Math.abs(mean(draws.map((v) => v ** 4)) - 3) < 5 * Math.sqrt(96 / n));
  // Beyond the ziggurat's last box lie 0.026 %, within one deviation 68.27 %.
  const share = (of) => draws.reduce((sum, v) => sum + (of(Math.abs(v)) ? 1 : 0), 0) / n;
  assert(Math.abs(share((v) => v > 3.6541529) - 2.58e-4) < 5 * Math.sqrt(2.58e-4 / n));
  assert(Math.abs(share((v) => v < 1) - 0.68269) < 5 * Math.sqrt(0.22 / n));
});

test('uniform draws fill [0, 1) evenly', () => {
  const stream = new S.Stream(5, 12, 0);
  const draws = Float64Array.from({ length: 50_000 }, () => stream.uniform());
  assert(draws.every((v) => v >= 0 && v < 1));
  assert(Math.abs(mean(draws) - 0.5) < 5 / Math.sqrt(12 * draws.length));
});

const reference = process.argv[2] && JSON.parse(readFileSync(process.argv[2], 'utf8'));
test('normal draws are the program\'s', { skip: reference ? false : 'no REFERENCE.json was given' }, () => {
  const { seed, purpose, index, values } = reference.normal;
  assert(values.length >= 1000);
  // Bit for bit, but where a logarithm differs in its last digit: in the tail alone.
  const drawn = new S.Stream(seed, purpose, index).normals(values.length);
  const wrong = values.filter((v, i) => !(Math.abs(drawn[i] - Math.fround(v)) <= 1e-6));
  assert.deepEqual(wrong, []);
  assert(new S.Stream(seed, purpose, index + 1).normals(values.length).some((v, i) => v !== values[i]));
});

// ---- Sampling, on Gaussian data whose noise is known exactly.

const T = 1000;
/** The linear schedule. */
const linear = (() => {
  const alphaBar = new Float64Array(T + 1).fill(1);
  for (let t = 1; t <= T; t++) alphaBar[t] = alphaBar[t - 1] * (1 - (1e-4 + (0.0199 * (t - 1)) / (T - 1)));
  return alphaBar;
})();
const schedules = ['eps', 'v'].map((prediction) => (
  { alphaBar: linear, prediction, beginsAtPureNoise: prediction === 'v' }));
const [MEAN, DEVIATION] = [0.3, 0.4];

/** What a perfect network puts out for data of N(MEAN, deviation^2). */
function perfect({ alphaBar, prediction }, width) {
  return async (x, t) => {
    const a = alphaBar[t];
    const output = (v) => {
      const eps = (Math.sqrt(1 - a) * (v - Math.sqrt(a) * MEAN)) / (a * width ** 2 + 1 - a);
      const image = (v - Math.sqrt(1 - a) * eps) / Math.sqrt(a);
      return prediction === 'v' ? Math.sqrt(a) * eps - Math.sqrt(1 - a) * image : eps;
    };
    return x.map(output);
  };
}

const settings = (sampler, steps, more = {}) => (
  { sampler, steps, eta: 0, clipX0: false, startLevel: null, seed: 3, ...more });

test('DDIM and DPM-Solver++ follow the exact path of Gaussian data', async () => {
  for (const schedule of schedules) {
    for (const [sampler, steps, bound] of [['ddim', 1000, 5e-3], ['ddim', 50, 0.12], ['dpm-solver', 20, 0.04]]) {
      const x = new S.Stream(1, 8, 0).normals(500);
      const first = S.times(schedule, sampler, steps, null)[0];
      const a = linear[first];
      const spread = Math.sqrt(a * DEVIATION ** 2 + 1 - a);
      const exact = x.map((v) => MEAN + (DEVIATION * (v - Math.sqrt(a) * MEAN)) / spread);
      const draw = (width) => S.sample(schedule, x, settings(sampler, steps), perfect(schedule, width));
      const error = apart(await draw(DEVIATION), exact);
      assert(error < bound, `${sampler}, ${schedule.prediction}, ${steps} steps: ${error}`);
      assert(apart(await draw(1.5 * DEVIATION), exact) > 0.2, 'another network leads elsewhere');
    }
  }
});

test('DDPM draws data of the right mean and deviation, and is DDIM with eta 1', async () => {
  const n = 4000;
  for (const schedule of schedules) {
    const draw = async (more, sampler = 'ddim') => {
      const x = new S.Stream(1, 8, 0).normals(n);
      return S.sample(schedule, x, settings(sampler, 200, more), perfect(schedule, DEVIATION));
    };
    const ddpm = await draw({}, 'ddpm');
    assert(Math.abs(mean(ddpm) - MEAN) < (5 * DEVIATION) / Math.sqrt(n));
    assert(Math.abs(deviation(ddpm) / DEVIATION - 1) < 0.06, deviation(ddpm));
    assert(apart(ddpm, await draw({ eta: 1 })) < 1e-4);
    assert(apart(ddpm, await draw({ eta: 1, seed: 4 })) > 0.1);
  }
});

test('copies of an image get the same noise, other images their own', async () => {
  const half = new S.Stream(1, 8, 0).normals(50);
  const x = Float32Array.from([...half, ...half]);
  for (const [copies, same] of [[2, true], [1, false]]) {
    const out = await S.sample(schedules[0], x, settings('ddpm', 5, { copies }), perfect(schedules[0], 1));
    assert.equal(apart(out.subarray(0, 50), out.subarray(50)) === 0, same);
  }
});

test('every sampler begins at the level that it is given and reports each step', async () => {
  for (const sampler of ['ddim', 'ddpm', 'dpm-solver']) {
    const asked = [];
    const steps = [];
    const predict = perfect(schedules[0], DEVIATION);
    await S.sample(schedules[0], new Float32Array(4), settings(sampler, 10, { startLevel: 300 }), (x, t) => {
      asked.push(t);
      return predict(x, t);
    }, (step) => steps.push(step.i));
    assert.equal(asked[0], 300);
    assert.equal(asked.at(-1), 1);
    assert(asked.every((t, i) => i === 0 || t < asked[i - 1]));
    assert.deepEqual(steps, asked.map((_, i) => i + 1));
  }
});

test('times are the program\'s', () => {
  const of = (T_) => ({ alphaBar: linear.subarray(0, T_ + 1), prediction: 'eps', beginsAtPureNoise: false });
  assert.deepEqual(S.times(of(1000), 'ddim', 4, null), [875, 625, 375, 125]);
  assert.deepEqual(S.times(of(1000), 'ddim', 3, null), [834, 500, 167]);
  assert.deepEqual(S.times(of(1000), 'ddim', 1, null), [500]);
  assert.equal(S.times({ ...of(1000), beginsAtPureNoise: true }, 'dpm-solver', 12, null)[0], 1000);
});

test('waves tell the time by sines, then cosines', () => {
  const out = S.waves(500, schedules[0], 4, 1000);
  const [a, b] = [500, 0.05];
  assert(apart(out, [Math.sin(a), Math.sin(b), Math.cos(a), Math.cos(b)]) < 1e-5);
});

// ---- z and guidance.

const MODELS = {
  sections: { sections: [[0, 2], [2, 3]], stages: 2, z_dim: 3, z_width: 3 },
  plain: { sections: [[0, 3]], stages: 2, z_dim: 3, z_width: 6 },
};

test('mixing takes sections, or stages where z has none', () => {
  const [own, theirs] = [Float32Array.of(1, 1, 1), Float32Array.of(7, 8, 9)];
  const mixed = (model, chosen) => [...S.mix(model, S.byStage(model, own), S.byStage(model, theirs), chosen)];
  assert.deepEqual(mixed(MODELS.sections, [0]), [7, 8, 1]);
  assert.deepEqual(mixed(MODELS.sections, [1]), [1, 1, 9]);
  assert.deepEqual(mixed(MODELS.plain, [1]), [1, 1, 1, 7, 8, 9]);
  assert.deepEqual(mixed(MODELS.plain, []), [1, 1, 1, 1, 1, 1]);
});

test('guidance moves away from the predictions without z, or without sections of it', async () => {
  // A denoiser whose prediction is the sum of z: masking takes a part of it away.
  const evaluate = async (xs, zs) => xs.map((x, i) => x.map(() => zs[i].reduce((a, b) => a + b, 0)));
  const run = async (model, guidance) => {
    const z = [Float32Array.of(1, 2, 3), Float32Array.of(4, 5, 6)].map((one) => S.byStage(model, one));
    return [...await S.guided(model, guidance, z, evaluate)(new Float32Array(2), 1)];
  };
  assert.deepEqual(await run(MODELS.sections, 0), [6, 15]);
  assert.deepEqual(await run(MODELS.sections, 0.5), [9, 22.5]);
  assert.deepEqual(await run(MODELS.plain, 0.5), [18, 45]);
  // Half of the first section more, a whole of the second: 6 + 1.5 + 3, 15 + 4.5 + 6.
  assert.deepEqual(await run(MODELS.sections, [0.5, 1]), [10.5, 25.5]);
});

// ---- The linear decoder and the prior.

test('the linear decoder adds its rows, draws residuals and sharpens', () => {
  const [side, size] = [2, 12];
  const row = (v) => new Float32Array(size).fill(v);
  const flat = (rows) => Float32Array.from(rows.flatMap((r) => [...r]));
  const decoder = (detail, components = []) => (
    new S.LinearDecoder(side, flat([row(1), row(10), row(0.5)]), flat(components), Float32Array.from(detail)));
  const plain = decoder([1, 1, 1]);
  assert.deepEqual([...plain.mean(Float32Array.of(0.25, -0.01))], [...row(0.65)]);
  assert.deepEqual([...plain.mean(Float32Array.of(9, 9, 0.25, -0.01))], [...row(0.65)], 'the middle\'s z');
  assert.deepEqual([...plain.at(row(3), 2)], [...row(1)]);
  assert.deepEqual([...plain.residual(0, 1)], [...row(0)]);
  const drawn = decoder([1, 1, 1], [row(1)]).residual(0, 1);
  assert(drawn[0] !== 0 && drawn.every((v) => v === drawn[0]));
  const image = Float32Array.from({ length: size }, (_, i) => (i % 2 ? 0.2 : -0.2));
  assert.deepEqual([...plain.detailed(image, side)], [...image]);
  // Waves of half a cycle are in band round(0.5) = 1 and doubled; a flat image is in band 0.
  const sharp = decoder([1, 2, 2]);
  assert(apart(sharp.detailed(image, side), image.map((v) => 2 * v)) < 1e-6);
  assert(apart(sharp.detailed(row(0.3), side), row(0.3)) < 1e-6);
  assert.deepEqual([...S.enlarged(row(7), 2, 4)], Array(48).fill(7));
});

test('the prior draws its Gaussians as often as they weigh, with their deviations', () => {
  const prior = {
    weights: Float32Array.of(0.25, 0.75), means: Float32Array.of(-10, 0, 10, 0),
    factors: Float32Array.of(1, 0, 2, 1, 1, 0, 0, 3),
  };
  const draws = Array.from({ length: 4000 }, (_, i) => S.drawZ(prior, i, 1));
  const first = draws.filter((z) => z[0] < 0);
  assert(Math.abs(first.length / 4000 - 0.25) < 5 * Math.sqrt(0.19 / 4000));
  assert(Math.abs(deviation(first.map((z) => z[1])) - Math.sqrt(5)) < 0.3);
  assert(Math.abs(deviation(draws.filter((z) => z[0] > 0).map((z) => z[1])) - 3) < 0.3);
  assert.deepEqual(S.drawZ(prior, 5, 1), draws[5]);
});

// ---- Tensors.

test('16-bit floats are read as what they stand for', () => {
  const cases = [[0x3c00, 1], [0xc000, -2], [0x7bff, 65504], [0x0001, 2 ** -24], [0x8000, -0], [0x7c00, Infinity]];
  for (const [bits, value] of cases) assert.equal(HALVES[bits], value);
  assert(Number.isNaN(HALVES[0x7e00]));
});

test('tensors outside the data, of unknown types or missing are named', () => {
  const bytes = new Uint8Array(16);
  const entry = (type, offset, shape = [2]) => ({ a: { shape, type, offset } });
  bytes.set([0, 0x3c], 8);
  assert.deepEqual([...new Tensors(entry('f16', 8), bytes).get('a')], [1, 0]);
  for (const bad of [entry('f64', 8), entry('f32', 4), entry('i7', 0)]) {
    assert.throws(() => new Tensors(bad, bytes), SodaError);
  }
  assert.throws(() => new Tensors({}, bytes).get('a'), /missing/);
});

test('data that is whole is decoded, and what is cut short or altered is refused', async () => {
  const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);
  const text = Buffer.from(bytes).toString('base64');
  const expected = { bytes: 1000, sha256: createHash('sha256').update(bytes).digest('hex') };
  assert.deepEqual(await decodeBlob(`\n${text}\n`, expected), bytes);
  const altered = (text[5] === 'A' ? 'B' : 'A');
  for (const bad of [text.slice(4), '', text.slice(0, 5) + altered + text.slice(6), `*${text.slice(1)}`]) {
    await assert.rejects(decodeBlob(bad, expected), SodaError);
  }
});

// ---- Batches.

test('only fast GPUs draw eight at once, and only networks with a pass for eight', async () => {
  const { Networks } = require('./networks.js');
  const batch = (passes, one, eight, left) => Networks.prototype.batchFor.call({
    page: { plan: { passes } }, seconds: { 1: one, 8: eight }, player: { compile: async () => {} },
  }, left);
  const both = { denoise_1: {}, denoise_8: {} };
  assert.equal(await batch(both, 0.01, null, 8), 8);
  assert.equal(await batch(both, 0.01, 0.02, 8), 8);
  assert.equal(await batch({ denoise_1: {} }, 0.01, null, 8), 1);
  assert.equal(await batch(both, 1, null, 8), 1);
  assert.equal(await batch(both, 0.01, 0.2, 8), 1);
});

// ---- z.

test('z moves along directions by their deviations, and its neighbours are those of its direction', () => {
  const { Networks } = require('./networks.js');
  const page = { directions: [{ deviation: 2 }, { deviation: 0.5 }] };
  const units = Float32Array.from([1, 0, 0.6, 0.8]);
  const moved = Networks.prototype.moved.call({ page, units }, Float32Array.from([1, 1]), [1, -2]);
  assert(apart(moved, [1 + 2 - 0.6, 1 - 0.8]) < 1e-6);
  const gallery = { count: 3, z: Float32Array.from([0, 3, 2, 2, -1, 0]) };
  const nearest = (k, except) => Networks.prototype.nearest.call({ gallery }, Float32Array.from([0.5, 1]), k, except);
  assert.deepEqual(nearest(3).map(({ index }) => index), [1, 0, 2]);
  assert.deepEqual(nearest(1, 1).map(({ index }) => index), [0]);
  const [{ cosine, distance }] = nearest(1);
  assert(Math.abs(cosine - 1.5 / Math.sqrt(1.25 * 2)) < 1e-6);
  assert(Math.abs(distance - Math.sqrt(2 - 2 * cosine)) < 1e-6);
});

// ---- Pictures.

test('the encoder\'s view of a picture is Pillow\'s, byte for byte', () => {
  require('./picture.js');
  const { view } = globalThis.SodaPicture;
  const picture = Uint8Array.from({ length: 48 }, (_, i) => (i * 73 + 19) % 256);
  // Image.fromarray(picture.reshape(4, 4, 3)).resize((side, side), Image.BILINEAR)
  const smaller = [
    94, 113, 133, 176, 69, 142, 131, 150, 97, 170, 115, 99, 126, 135, 144, 81, 154, 99, 120, 117, 190,
    76, 111, 146, 157, 104, 101,
  ];
  assert.deepEqual([...view(picture, 4, 3)], smaller);
  const larger = view(picture, 4, 6);
  assert.deepEqual([...larger.slice(0, 18)], [19, 92, 165, 129, 74, 147, 232, 49, 122, 207, 24, 97, 183, 128, 73, 164, 237, 54]);
  assert.deepEqual([...larger.slice(38, 56)], [35, 127, 157, 124, 102, 139, 205, 77, 143, 180, 53, 126, 156, 34, 107, 137, 217, 77]);
  assert.equal(larger.reduce((a, b) => a + b, 0), 13393);
  assert.deepEqual([...view(picture, 4, 4)], [...picture]);
});
