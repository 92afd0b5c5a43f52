'use strict';
// What the page's scripts share: errors, and tensors in one block of bytes.

/** @typedef {{shape: number[], type: string, offset: number}} TensorEntry */

globalThis.SodaTensors = (() => {
  /** Something that went wrong, in one sentence for whoever looks at the page. */
  class SodaError extends Error {}

  /** The numbers that 16-bit floats stand for, by their bits. */
  const HALVES = new Float32Array(1 << 16);
  for (let bits = 0; bits < 1 << 16; bits++) {
    const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    if (exponent === 31) HALVES[bits] = fraction ? NaN : sign * Infinity;
    else if (exponent === 0) HALVES[bits] = sign * fraction * 2 ** -24;
    else HALVES[bits] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  const ARRAYS = {
    f16: Uint16Array, f32: Float32Array, f64: Float64Array, u8: Uint8Array, u16: Uint16Array,
  };

  /** @param {number[]} shape */
  const count = (shape) => shape.reduce((product, n) => product * n, 1);

  /** Named tensors in one block of bytes. */
  class Tensors {
    /** @param {Object<string, TensorEntry>} entries @param {Uint8Array} bytes little endian */
    constructor(entries, bytes) {
      this.entries = entries;
      this.bytes = bytes;
      for (const [name, { shape, type, offset }] of Object.entries(entries)) {
        const array = ARRAYS[type];
        if (!array) {
          throw new SodaError(`This file is damaged: the tensor ${name} is of the type ${type}.`);
        }
        if (offset % 8 || offset + count(shape) * array.BYTES_PER_ELEMENT > bytes.length) {
          throw new SodaError(`This file is damaged: the tensor ${name} lies outside its data.`);
        }
      }
    }

    /** @param {string} name */
    has(name) {
      return Object.hasOwn(this.entries, name);
    }

    /** @param {string} name @returns {number[]} */
    shape(name) {
      this.need(name);
      return this.entries[name].shape;
    }

    /** The numbers of a tensor; 16-bit floats become 32-bit ones. @param {string} name */
    get(name) {
      this.need(name);
      const { shape, type, offset } = this.entries[name];
      const raw = new ARRAYS[type](this.bytes.buffer, this.bytes.byteOffset + offset, count(shape));
      return type === 'f16' ? Float32Array.from(raw, (bits) => HALVES[bits]) : raw;
    }

    /** @param {string} name */
    need(name) {
      if (this.has(name)) return;
      throw new SodaError(`This file is damaged: the tensor ${name} is missing.`);
    }
  }

  /**
   * The bytes that stand in the page as base64, checked against what the page says of them.
   * @param {string} text @param {{bytes: number, sha256: string}} expected
   * @returns {Promise<Uint8Array>}
   */
  async function decodeBlob(text, { bytes: length, sha256 }) {
    const cut = new SodaError('This file is damaged or cut short: download or export it again.');
    const compact = text.trim();
    // Base64 of so many bytes is so long; a look at that costs nothing.
    if (compact.length !== 4 * Math.ceil(length / 3)) throw cut;
    const bytes = new Uint8Array(length);
    try {
      const piece = 1 << 20;
      for (let at = 0, to = 0; at < compact.length; at += piece) {
        const some = atob(compact.slice(at, at + piece));
        if (to + some.length > length) throw cut;
        for (let i = 0; i < some.length; i++) bytes[to + i] = some.charCodeAt(i);
        to += some.length;
        // Keeps the page alive while it decodes tens of megabytes.
        await new Promise((done) => setTimeout(done, 0));
      }
    } catch {
      throw cut;
    }
    // There is no digest where the page came without encryption.
    const digest = await globalThis.crypto?.subtle?.digest('SHA-256', bytes);
    const hex = (byte) => byte.toString(16).padStart(2, '0');
    if (digest && Array.from(new Uint8Array(digest), hex).join('') !== sha256) throw cut;
    return bytes;
  }

  return { SodaError, Tensors, HALVES, count, decodeBlob };
})();
if (typeof module !== 'undefined') module.exports = globalThis.SodaTensors;
