// Submits every pass of a page of `soda export --web` to Dawn, Chrome's WebGPU, with the page's own
// player: node page.mjs FILE.html
//
// Dawn's null backend needs neither a GPU nor a driver and computes nothing. It checks shaders,
// layouts, the bindings of each dispatch and what is submitted, within WebGPU's default limits and
// without optional features.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { create, globals } from 'webgpu';

Object.assign(globalThis, globals);
Object.defineProperty(globalThis, 'navigator', { value: { gpu: create(['backend=null']) }, configurable: true });
const require = createRequire(import.meta.url);
const { count } = require('../../assets/web/tensors.js');
const { Player } = require('../../assets/web/player.js');

/** Returns why Dawn rejects a pass of `plan`, or undefined. */
async function refusal({ plan, tensors }, name) {
  const zeros = (shape) => new Float32Array(count(shape));
  const player = await Player.open(plan, { get: (tensor) => zeros(tensors[tensor].shape) });
  try {
    const { inputs } = plan.passes[name];
    await player.run(name, Object.fromEntries(Object.entries(inputs).map(([input, { shape }]) => [input, zeros(shape)])));
    return undefined;
  } catch (error) {
    return error.message;
  } finally {
    player.device.destroy();
  }
}

/** Copies `page`; its first dispatch with an unused operand then binds its result there too. */
function boundTwice(page, name) {
  const copy = structuredClone(page);
  const dispatch = copy.plan.passes[name].dispatches.find(({ operands }) => operands.includes(null));
  const written = copy.plan.kernels[dispatch.kernel].writes.indexOf(true);
  dispatch.operands[dispatch.operands.indexOf(null)] = dispatch.operands[written];
  return copy;
}

const [file, ...rest] = process.argv.slice(2);
if (!file || rest.length > 0) {
  console.error('usage: node page.mjs FILE.html');
  process.exit(2);
}
const [, text] = readFileSync(file, 'utf8').match(/<script[^>]* id="soda-page">(.*?)<\/script>/s);
const page = JSON.parse(text);
const failures = [];
const passes = Object.keys(page.plan.passes);
for (const name of passes) {
  const reason = await refusal(page, name);
  if (reason) failures.push(`${name}: ${reason}`);
}
// Negative control: Dawn must reject this, or the check itself is broken.
if (!(await refusal(boundTwice(page, 'encode_1'), 'encode_1'))) failures.push('control: a result bound twice was accepted');
for (const failure of failures) console.log(`FAILED ${failure}`);
console.log(`${passes.length} passes of ${page.plan.kernels.length} kernels submitted to Dawn, 1 control; ${failures.length} failures`);
process.exit(failures.length ? 1 : 0);
