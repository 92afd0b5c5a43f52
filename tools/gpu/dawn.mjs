// Compiles every shader of a folder with Dawn, Chrome's WebGPU, within WebGPU's default limits:
// node dawn.mjs DIR
//
// `soda shaders DIR` writes the folder. Dawn's null backend needs neither a GPU nor a driver and
// runs nothing: Tint parses and validates each shader, and Dawn validates the pipeline. A device
// has exactly the features that the shader's extensions require. Cooperative matrices aren't part
// of WebGPU: only check-shaders checks those variants; here they are counted.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { create, globals } from 'webgpu';

Object.assign(globalThis, globals);

// WebGPU's names for the manifest's extensions.
const FEATURES = { f16: 'shader-f16', subgroups: 'subgroups' };
const NO_WEBGPU = 'cooperative_matrix';

const gpu = create(['backend=null']);
const devices = new Map();

/** Returns a device with WebGPU's default limits and exactly the features of `extensions`. */
async function deviceFor(extensions) {
  const requiredFeatures = extensions.map((extension) => {
    const feature = FEATURES[extension];
    if (!feature) throw new Error(`manifest.json: unknown extension ${extension}`);
    return feature;
  });
  const key = requiredFeatures.sort().join(' ');
  if (!devices.has(key)) {
    // Each adapter gives only one device.
    const adapter = await gpu.requestAdapter();
    if (!adapter) throw new Error("Dawn's null backend gives no adapter");
    devices.set(key, await adapter.requestDevice({ requiredFeatures }));
  }
  return devices.get(key);
}

/** Returns why Dawn rejects `text`, in one line, or undefined. */
async function refusal(text, extensions) {
  const device = await deviceFor(extensions);
  // naga rejects this line, so the shaders come without it.
  const front = extensions.includes('subgroups') ? 'enable subgroups;\n' : '';
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code: front + text });
  const { messages } = await module.getCompilationInfo();
  let failure;
  try {
    await device.createComputePipelineAsync({ layout: 'auto', compute: { module } });
  } catch (error) {
    failure = error.message;
  }
  failure ??= (await device.popErrorScope())?.message;

  const error = messages.find((message) => message.type === 'error');
  if (error) {
    const line = error.lineNum - (front ? 1 : 0);
    return `line ${line}, column ${error.linePos}: ${oneLine(error.message)}`;
  }
  return failure && oneLine(failure);
}

function oneLine(text) {
  return text.trim().replace(/\s+/g, ' ');
}

const buffers = (n) => [...Array(n).keys()].map((i) => `@group(0) @binding(${i}) var<storage, read_write> b${i}: array<f32>;`);
const touching = (n) => `${buffers(n).join('\n')}
@compute @workgroup_size(64) fn main() { ${[...Array(n).keys()].map((i) => `b${i}[0] = 1.0;`).join(' ')} }`;
const barrier = (builtin) => `${buffers(1)[0]}
@compute @workgroup_size(64) fn main(@builtin(${builtin}) id: vec3<u32>) {
  if id.x >= 3u { return; }
  workgroupBarrier();
  b0[id.x] = 1.0;
}`;
const sum = 'enable f16; @group(0) @binding(0) var<storage, read_write> b: array<f16>;'
  + ' @compute @workgroup_size(64) fn main() { b[0] = subgroupAdd(b[0]); }';

// Controls: what must be rejected, and for which reason, next to what must be accepted. Without
// them a check that detects nothing would pass.
const CONTROLS = [
  ['a barrier behind a return by workgroup', barrier('workgroup_id'), [], undefined],
  ['a barrier in non-uniform control flow', barrier('global_invocation_id'), [], 'uniform control flow'],
  ['8 storage buffers', touching(8), [], undefined],
  ['9 storage buffers', touching(9), [], 'storage buffers (9)'],
  ['f16 and subgroups', sum, ['f16', 'subgroups'], undefined],
  ['f16 on a device without it', sum, ['subgroups'], "'f16' is not allowed"],
  ['subgroups on a device without them', `enable subgroups;\n${sum}`, ['f16'], "'subgroups' is not allowed"],
];

/** Returns a line for each control with the wrong outcome. */
async function failedControls() {
  const failed = [];
  for (const [name, text, extensions, expected] of CONTROLS) {
    const found = await refusal(text, extensions);
    const right = expected ? found?.includes(expected) : !found;
    if (!right) failed.push(`control: ${name}: ${found ?? 'accepted'} instead of ${expected ?? 'accepted'}`);
  }
  return failed;
}

/** Checks the folder; returns the number of failures. */
async function check(dir) {
  const failures = await failedControls();
  const { shaders } = JSON.parse(readFileSync(join(dir, 'manifest.json'), 'utf8'));
  let compiled = 0;
  let left = 0;
  for (const { file, kernel, variant, extensions } of shaders) {
    if (extensions.includes(NO_WEBGPU)) {
      left++;
      continue;
    }
    const reason = await refusal(readFileSync(join(dir, file), 'utf8'), extensions);
    if (reason) failures.push(`${kernel}, ${variant}, ${file}: ${reason}`);
    compiled++;
  }
  if (compiled === 0) failures.push('manifest.json: no shader for WebGPU');
  for (const failure of failures) console.log(`FAILED ${failure}`);
  console.log(`${compiled} shaders compiled by Dawn, ${left} with cooperative matrices left to naga,`
    + ` ${CONTROLS.length} controls; ${failures.length} failures`);
  return failures.length;
}

const dirs = process.argv.slice(2);
if (dirs.length !== 1) {
  console.error('usage: node dawn.mjs DIR');
  process.exitCode = 2;
} else {
  try {
    process.exitCode = (await check(dirs[0])) ? 1 : 0;
  } catch (error) {
    console.error(`error: ${error.message}`);
    process.exitCode = 1;
  }
}
for (const device of devices.values()) device.destroy();
