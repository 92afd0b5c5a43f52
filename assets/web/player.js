'use strict';
// The player: runs a plan of compute shaders on WebGPU. It knows nothing of networks or images.
// docs/web.md describes the plan. Needs tensors.js.

/**
 * @typedef {{name: string, wgsl: string, writes: boolean[]}} Kernel
 * @typedef {{kernel: number, label: string, operands: (number | string | null)[], info: number,
 *   workgroups: [number, number, number]}} Dispatch
 * @typedef {{buffer: number, shape: number[]}} Port
 * @typedef {{buffers: number[], inputs: Object<string, Port>, outputs: Object<string, Port>,
 *   dispatches: Dispatch[]}} Pass
 * @typedef {{version: number, kernels: Kernel[], infos: number[][], passes: {}}} Plan
 * @typedef {Object<string, Float32Array>} Values
 */

globalThis.SodaPlayer = (() => {
  const { SodaError, count } = globalThis.SodaTensors;
  /** The version of the plan that this player understands. */
  const PLAN_VERSION = 1;
  /** Where an info block may begin: WebGPU's default alignment of uniforms. */
  const ALIGNMENT = 256;
  /** Bytes of the buffer that stands in for an operand that a shader doesn't look at. */
  const SPARE = 256;

  /** The first sentence of a message. @param {any} error */
  const brief = (error) => String(error?.message ?? error).match(/^.*?(?=\.?$|\.\s|\n)/m)[0];

  /** What the GPU says, in one sentence. @param {any} error @returns {SodaError} */
  function sentence(error) {
    if (error instanceof SodaError) return error;
    const noMemory = globalThis.GPUOutOfMemoryError && error instanceof GPUOutOfMemoryError;
    if (noMemory || error instanceof RangeError) {
      return new SodaError('The GPU has too little memory left: close other pages, reload this.');
    }
    return new SodaError(`The GPU could not do what the page asked of it (${brief(error)}).`);
  }

  /** A plan on a device. */
  class Player {
    /** @param {GPUDevice} device @param {GPUAdapterInfo} info @param {Plan} plan */
    constructor(device, info, plan, tensors) {
      Object.assign(this, { device, info, plan, tensors });
      /** @type {SodaError | null} */
      this.failed = null;
      this.onfailure = (_error) => {};
      this.layouts = new Map();
      this.pipelines = new Map();
      this.weights = new Map();
      this.spares = [];
      this.prepared = new Map();
      this.turn = Promise.resolve();
      device.lost.then(({ reason, message }) => {
        if (reason === 'destroyed') return;
        const why = message ? ` (${brief(message)})` : '';
        this.fail(new SodaError(`The GPU was lost${why}: reload the page to begin again.`));
      });
      device.addEventListener('uncapturederror', ({ error }) => this.fail(sentence(error)));
      let end = 0;
      this.infoAt = plan.infos.map((block) => {
        const at = end;
        end += Math.ceil((4 * block.length) / ALIGNMENT) * ALIGNMENT;
        return at;
      });
      const words = new Uint32Array(end / 4);
      plan.infos.forEach((block, i) => words.set(block, this.infoAt[i] / 4));
      this.infos = this.filled(words, GPUBufferUsage.UNIFORM);
    }

    /** Opens the GPU. @param {Plan} plan @returns {Promise<Player>} */
    static async open(plan, tensors) {
      if (plan.version !== PLAN_VERSION) {
        throw new SodaError(`The plan in this file is of version ${plan.version}, but this page `
          + `plays version ${PLAN_VERSION}: export the file again.`);
      }
      if (!globalThis.navigator?.gpu) {
        throw new SodaError(globalThis.isSecureContext === false
          ? 'WebGPU is off, as this page came without encryption: open it by https or from disk.'
          : 'This browser has no WebGPU: Chrome and Edge from 113, Safari from 26 and Firefox from '
            + '141 on have it, on most computers.');
      }
      const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
      if (!adapter) {
        throw new SodaError('This browser has WebGPU but no GPU for it: it may be turned off in '
          + 'the settings, or the driver is one that the browser doesn\'t trust.');
      }
      try {
        return new Player(await adapter.requestDevice(), adapter.info ?? {}, plan, tensors);
      } catch (error) {
        throw sentence(error);
      }
    }

    /** Keeps the first failure: those after it follow from it. @param {SodaError} error */
    fail(error) {
      if (this.failed) return;
      this.failed = error;
      this.onfailure(error);
    }

    /** Runs `work` and turns what the GPU says of it into one sentence. @param {() => any} work */
    async watched(work) {
      if (this.failed) throw this.failed;
      this.device.pushErrorScope('out-of-memory');
      this.device.pushErrorScope('validation');
      // Scopes hold what is called until they are popped, not what is waited for.
      const result = (async () => work())();
      const scopes = [this.device.popErrorScope(), this.device.popErrorScope()];
      const [value, ...errors] = await Promise.allSettled([result, ...scopes]);
      const said = errors.map((error) => error.value).find((error) => error);
      // A lost device refuses everything just before it says that it is lost.
      if (value.status === 'rejected') await new Promise((done) => setTimeout(done, 0));
      if (this.failed) throw this.failed;
      if (said || value.status === 'rejected') throw sentence(said ?? value.reason);
      return value.value;
    }

    /** Does `work` with a pass that is compiled, one thing at a time. @param {string} name */
    async with(name, work) {
      await this.compile([name]);
      const result = this.turn.then(() => this.watched(work));
      this.turn = result.catch(() => {});
      return result;
    }

    /**
     * Compiles what the passes need, all kernels at once.
     * @param {string[]} passes @param {(done: number, all: number) => void} [progress]
     */
    async compile(passes, progress = () => {}) {
      const used = passes.flatMap((name) => this.pass(name).dispatches.map((d) => d.kernel));
      const missing = [...new Set(used)].filter((kernel) => !this.pipelines.has(kernel));
      if (missing.length === 0) return;
      let done = 0;
      progress(done, missing.length);
      await this.watched(() => Promise.all(missing.map(async (number) => {
        const { name, wgsl, writes } = this.plan.kernels[number];
        const layout = this.layout(writes);
        const all = this.device.createPipelineLayout({ bindGroupLayouts: [layout] });
        const module = this.device.createShaderModule({ label: name, code: wgsl });
        const compute = { module, entryPoint: 'main' };
        try {
          const pipeline = await this.device.createComputePipelineAsync(
            { label: name, layout: all, compute });
          this.pipelines.set(number, { pipeline, layout });
        } catch (error) {
          throw new SodaError(`The browser can't compile the kernel ${name} (${brief(error)}).`);
        }
        progress(++done, missing.length);
      })));
    }

    /** A kernel's bindings: its operands, then the info block. @param {boolean[]} writes */
    layout(writes) {
      const key = String(writes);
      if (!this.layouts.has(key)) {
        const types = [...writes.map((w) => (w ? 'storage' : 'read-only-storage')), 'uniform'];
        const entries = types.map((type, binding) => (
          { binding, visibility: GPUShaderStage.COMPUTE, buffer: { type } }));
        this.layouts.set(key, this.device.createBindGroupLayout({ entries }));
      }
      return this.layouts.get(key);
    }

    /** @param {string} name @returns {Pass} */
    pass(name) {
      if (Object.hasOwn(this.plan.passes, name)) return this.plan.passes[name];
      throw new SodaError(`This file is damaged: its plan has no pass ${name}.`);
    }

    /** A buffer with this content. @param {ArrayBufferView} values @param {number} usage */
    filled(values, usage) {
      const size = Math.max(16, Math.ceil(values.byteLength / 16) * 16);
      const buffer = this.device.createBuffer({ size, usage, mappedAtCreation: true });
      const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
      new Uint8Array(buffer.getMappedRange()).set(bytes);
      buffer.unmap();
      return buffer;
    }

    /** The weights of this name, uploaded once for all passes. @param {string} name */
    weight(name) {
      if (!this.weights.has(name)) {
        const values = Float32Array.from(this.tensors.get(name));
        this.weights.set(name, this.filled(values, GPUBufferUsage.STORAGE));
      }
      return this.weights.get(name);
    }

    /** Buffers and bind groups of a pass whose kernels are compiled. @param {string} name */
    prepare(name) {
      if (this.prepared.has(name)) return this.prepared.get(name);
      const pass = this.pass(name);
      const { STORAGE, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
      const usage = STORAGE | COPY_SRC | COPY_DST;
      const buffers = pass.buffers.map((size) => this.device.createBuffer({ size, usage }));
      const read = (size) => this.device.createBuffer({ size, usage: MAP_READ | COPY_DST });
      const outputs = Object.entries(pass.outputs).map(([output, { buffer, shape }]) => (
        { output, from: buffers[buffer], size: 4 * count(shape), to: null }));
      const steps = pass.dispatches.map(({ kernel, operands, info, workgroups }) => {
        const { pipeline, layout } = this.pipelines.get(kernel);
        let nulls = 0;
        const bound = operands.map((operand) => {
          if (typeof operand === 'string') return { buffer: this.weight(operand) };
          // A dispatch can't bind one buffer twice where it is written.
          return { buffer: operand === null ? this.spare(nulls++) : buffers[operand] };
        });
        const size = 4 * this.plan.infos[info].length;
        bound.push({ buffer: this.infos, offset: this.infoAt[info], size });
        const entries = bound.map((resource, binding) => ({ binding, resource }));
        return { pipeline, group: this.device.createBindGroup({ layout, entries }), workgroups };
      });
      const prepared = { pass, buffers, outputs, steps, read };
      this.prepared.set(name, prepared);
      return prepared;
    }

    /** A buffer for an operand that nobody looks at. @param {number} number within a dispatch */
    spare(number) {
      const usage = GPUBufferUsage.STORAGE;
      this.spares[number] ??= this.device.createBuffer({ size: SPARE, usage });
      return this.spares[number];
    }

    /** Frees the buffers of a pass. @param {string} name */
    forget(name) {
      const { buffers = [], outputs = [] } = this.prepared.get(name) ?? {};
      [...buffers, ...outputs.map(({ to }) => to)].forEach((buffer) => buffer?.destroy());
      this.prepared.delete(name);
    }

    /** @param {{pass: Pass, buffers: GPUBuffer[]}} prepared @param {Values} inputs */
    write({ pass, buffers }, inputs) {
      for (const [name, { buffer, shape }] of Object.entries(pass.inputs)) {
        const [given, wanted] = [inputs[name]?.length ?? 0, count(shape)];
        if (given !== wanted) {
          throw new SodaError(`The input ${name} has ${given} numbers instead of ${wanted}.`);
        }
        this.device.queue.writeBuffer(buffers[buffer], 0, inputs[name]);
      }
    }

    /** The commands of a pass, `times` in a row. @param {string} name @param {number} times */
    record(name, times) {
      const encoder = this.device.createCommandEncoder({ label: name });
      const compute = encoder.beginComputePass();
      for (let i = 0; i < times; i++) {
        for (const { pipeline, group, workgroups } of this.prepare(name).steps) {
          compute.setPipeline(pipeline);
          compute.setBindGroup(0, group);
          compute.dispatchWorkgroups(...workgroups);
        }
      }
      compute.end();
      return encoder;
    }

    /**
     * Runs a pass once, in one submission, and reads what it puts out.
     * @param {string} name @param {Values} inputs @returns {Promise<Values>}
     */
    run(name, inputs) {
      return this.with(name, async () => {
        const prepared = this.prepare(name);
        this.write(prepared, inputs);
        const encoder = this.record(name, 1);
        for (const output of prepared.outputs) {
          output.to ??= prepared.read(output.size);
          encoder.copyBufferToBuffer(output.from, 0, output.to, 0, output.size);
        }
        this.device.queue.submit([encoder.finish()]);
        return Object.fromEntries(await Promise.all(prepared.outputs.map(async ({ output, to }) => {
          await to.mapAsync(GPUMapMode.READ);
          const values = new Float32Array(to.getMappedRange()).slice();
          to.unmap();
          return [output, values];
        })));
      });
    }

    /** Fills the inputs of a pass to be timed. @param {string} name @param {Values} inputs */
    load(name, inputs) {
      return this.with(name, () => this.write(this.prepare(name), inputs));
    }

    /** Seconds of a pass, `times` in one submission. @param {string} name @param {number} times */
    time(name, times) {
      return this.with(name, async () => {
        const commands = this.record(name, times).finish();
        const start = performance.now();
        this.device.queue.submit([commands]);
        await this.device.queue.onSubmittedWorkDone();
        return (performance.now() - start) / 1e3;
      });
    }
  }

  return { Player, PLAN_VERSION };
})();
if (typeof module !== 'undefined') module.exports = globalThis.SodaPlayer;
