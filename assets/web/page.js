'use strict';
// The page: what visitors see and press. Needs all the other scripts.

(() => {
  const { SodaError, Tensors, decodeBlob } = globalThis.SodaTensors;
  const { Player } = globalThis.SodaPlayer;
  const { Networks, Cancelled, frame, toBytes } = globalThis.SodaNetworks;
  const S = globalThis.SodaSampler;
  const Picture = globalThis.SodaPicture;
  const Bench = globalThis.SodaBench;

  /** The version of the page's JSON that these scripts read. */
  const PAGE_VERSION = 1;
  const EXAMPLES = 12;
  const NEIGHBOURS = 8;
  /** Frames of the film of a drawing, beside its start. */
  const FRAMES = 12;
  /** Pictures on the way between two, and new ones at a time. */
  const WAY = 8;
  /** Seconds up to which the page draws without being asked. */
  const UNASKED = 6;

  const $ = (id) => document.getElementById(id);
  const format = (v, digits = 2) => v.toFixed(digits).replace('-', '−');

  /** An element with these properties and children. */
  function make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(properties)) {
      if (key in element && key !== 'list') element[key] = value;
      else element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  }

  /** What tests look at. */
  const state = { phase: 'opening', drawn: 0, message: null, stepMs: null };
  /** @type {any} the networks, once the file is read; `ready` tells whether a GPU runs them */
  let networks = null;
  let gpu = false;
  let failSoon = null;

  // ---- Telling.

  /** One sentence that stays until the next thing works. @param {string | null} text */
  function notice(text) {
    state.message = text;
    $('notice').textContent = text ?? '';
    $('notice').hidden = !text;
    // What is true as long as the page is open may scroll away.
    $('notice').classList.toggle('passing', text !== failSoon?.message);
  }

  /** For those who listen to the page. @param {string} text */
  function announce(text) {
    $('announce').textContent = text;
  }

  /** @param {any} error */
  function tell(error) {
    if (error instanceof Cancelled) return;
    if (!(error instanceof SodaError)) console.error(error);
    const text = error instanceof SodaError ? error.message : `Something went wrong here (${error.message}).`;
    notice(text);
  }

  // ---- Work: one thing at a time, with progress and a way to stop it.

  /** @type {{token: {cancelled: boolean}, lasting: boolean, done: Promise<any>} | null} */
  let current = null;

  /**
   * Does `work` after whatever runs has been stopped.
   * @param {string} title @param {(token: {cancelled: boolean}, progress: Function) => Promise<any>} work
   * @param {boolean} [lasting] what comes next waits for it instead of stopping it
   */
  async function job(title, work, lasting = false) {
    const token = { cancelled: false };
    const before = current;
    const focused = document.activeElement;
    let finish;
    current = { token, lasting, done: new Promise((done) => { finish = done; }) };
    if (before) {
      if (!before.lasting) before.token.cancelled = true;
      await before.done;
    }
    try {
      if (token.cancelled) throw new Cancelled();
      state.phase = 'busy';
      announce(title);
      progress(0, 1, title);
      const value = await work(token, progress);
      if (token.cancelled) throw new Cancelled();
      return value;
    } finally {
      finish();
      if (current?.token === token) {
        current = null;
        // The button is about to disappear.
        if (document.activeElement === $('cancel-button')) focused?.focus({ preventScroll: true });
        $('status').hidden = true;
        state.phase = networks?.player?.failed ? 'failed' : 'idle';
      }
    }
  }

  /** @param {number} done @param {number} all @param {string} text */
  function progress(done, all, text) {
    $('status').hidden = false;
    $('cancel-button').hidden = !current;
    $('status-text').textContent = text;
    $('progress').value = all > 0 ? done / all : 1;
  }

  /** Starts a job from a button or an event; what it throws is told. */
  function start(title, work, end = null) {
    notice(gpu ? null : failSoon?.message);
    clearTimeout(waiting);
    return job(title, work).then((value) => {
      if (end) announce(end);
      return value;
    }, (error) => {
      // Not where the next thing has begun, which is announced already.
      if (error instanceof Cancelled && !current) announce('Cancelled.');
      tell(error);
    });
  }

  // ---- Pictures on the page.

  /** @param {HTMLCanvasElement} canvas @param {ArrayLike<number>} bytes [side, side, 3] */
  function paint(canvas, bytes, label = null) {
    const side = Math.round(Math.sqrt(bytes.length / 3));
    if (canvas.width !== side || canvas.height !== side) canvas.width = canvas.height = side;
    const data = new ImageData(side, side);
    for (let p = 0; p < side * side; p++) {
      for (let c = 0; c < 3; c++) data.data[4 * p + c] = bytes[3 * p + c];
      data.data[4 * p + 3] = 255;
    }
    canvas.getContext('2d').putImageData(data, 0, 0);
    if (label) canvas.setAttribute('aria-label', label);
  }

  /** @param {HTMLCanvasElement} canvas */
  function blank(canvas, label) {
    canvas.getContext('2d').clearRect(0, 0, canvas.width, canvas.height);
    canvas.setAttribute('aria-label', label);
  }

  /** Replaces the items of a list; the focus stays on the same place in it. */
  function refill(list, items) {
    const at = [...list.children].findIndex((item) => item.contains(document.activeElement));
    list.replaceChildren(...items);
    list.children[at]?.querySelector('button')?.focus({ preventScroll: true });
  }

  function canvasOf(bytes, label) {
    const canvas = make('canvas', { className: 'pixels', role: 'img' });
    paint(canvas, bytes, label);
    return canvas;
  }

  /** @param {number} index of the gallery */
  const className = (index) => networks.gallery.classes[networks.gallery.labels[index]] ?? 'unnamed';
  const article = (name) => (/^[aeiou]/.test(name) ? `an ${name}` : `a ${name}`);
  const plural = (name) => (/(s|sh|ch|x)$/.test(name) ? `${name}es` : `${name}s`).replace(/^(deer|sheep|fish)e?s$/, '$1');

  /** Bytes of a gallery image as it is stored. @param {number} index */
  function galleryBytes(index) {
    const { side, pixels } = networks.gallery;
    return pixels.subarray(index * side * side * 3, (index + 1) * side * side * 3);
  }

  /** A button that shows a picture. @param {ArrayLike<number>} bytes @param {() => void} press */
  function thumb(bytes, label, press) {
    const canvas = make('canvas', { className: 'pixels', 'aria-hidden': 'true' });
    paint(canvas, bytes);
    const button = make('button', { type: 'button', className: 'thumb', title: label, 'aria-label': label }, canvas);
    button.addEventListener('click', press);
    return button;
  }

  /** Distinct numbers below n. */
  function some(n, k) {
    const found = new Set();
    while (found.size < Math.min(n, k)) found.add(Math.floor(Math.random() * n));
    return [...found];
  }

  /** @typedef {{bytes: ArrayLike<number>, index: number | null, name: string, z: Float32Array | null}} Chosen */

  /** @returns {Chosen} */
  function fromGallery(index) {
    const { z, classes, split } = networks.gallery;
    const dim = networks.model.z_dim;
    const stored = Float32Array.from(z.subarray(index * dim, (index + 1) * dim));
    const name = classes.length > 1 ? `${article(className(index))} of the ${split === 'train' ? 'training' : split} pictures`
      : `a picture of the ${split} set`;
    return { bytes: galleryBytes(index), index, name, z: gpu ? null : stored };
  }

  /** @returns {Chosen} */
  const fromBytes = (bytes, name) => ({ bytes, index: null, name, z: null });

  async function numbersOf(chosen) {
    if (!chosen.z) {
      if (!gpu) throw new SodaError(`Only the examples have numbers here. ${failSoon?.message ?? 'There is no GPU to find others.'}`);
      chosen.z = await networks.encode(chosen.bytes);
    }
    return chosen.z;
  }

  // ---- z as bubbles.

  /** Mean and standard deviation of each number over the gallery: numbers are shown relative to them. */
  let usual = null;

  /** @param {ArrayLike<number>} all z of several pictures @param {number} dim */
  function spread(all, dim) {
    const n = all.length / dim;
    const over = (i, of) => Array.from({ length: n }, (_, k) => of(all[k * dim + i])).reduce((sum, v) => sum + v, 0) / n;
    return Array.from({ length: dim }, (_, i) => {
      const mean = over(i, (v) => v);
      return { mean, deviation: Math.sqrt(over(i, (v) => (v - mean) ** 2)) || 1 };
    });
  }

  /** A bubble for each number: its area tells how far it is from the mean, filled is above, a ring below. */
  function showZ(z, moved = false) {
    const { sections, stage_sides: sides } = networks.model;
    const bands = sections.length > 1 ? sections : [[0, z.length]];
    const widest = Math.max(...bands.map(([from, to]) => to - from));
    const columns = sections.length > 1 ? Math.ceil(widest / Math.max(1, Math.round(widest / 13))) : Math.ceil(Math.sqrt(z.length * 1.7));
    const left = sections.length > 1 ? 2.7 : 0;
    const parts = [];
    let y = 0;
    bands.forEach(([from, to], s) => {
      const rows = Math.ceil((to - from) / columns);
      if (sections.length > 1) {
        const label = s === bands.length - 1 ? 'middle' : `${sides[s]} × ${sides[s]}`;
        parts.push(`<text x="0" y="${y + rows / 2 + 0.18}">${label}</text>`);
      }
      for (let i = from; i < to; i++) {
        const { mean, deviation } = usual?.[i] ?? { mean: 0, deviation: 1 };
        const v = (z[i] - mean) / (2.6 * deviation);
        const r = Math.max(0.05, 0.47 * Math.sqrt(Math.min(1, Math.abs(v))));
        const [cx, cy] = [left + ((i - from) % columns) + 0.5, y + Math.floor((i - from) / columns) + 0.5];
        const kind = r < 0.09 ? 'none' : v > 0 ? 'plus' : 'minus';
        const radius = kind === 'minus' ? r - 0.05 : r;
        parts.push(`<circle class="${kind}" cx="${cx}" cy="${cy}" r="${radius.toFixed(3)}"><title>number ${i + 1}: ${format(z[i])}${usual ? `, usually ${format(mean)}` : ''}</title></circle>`);
      }
      y += rows + (sections.length > 1 ? 0.45 : 0);
    });
    $('z').innerHTML = `<svg viewBox="0 0 ${left + columns} ${(y - (sections.length > 1 ? 0.45 : 0)).toFixed(2)}" role="img" aria-label="The ${z.length} numbers as bubbles">${parts.join('')}</svg>`;
    const [low, high] = [Math.min(...z), Math.max(...z)];
    const middle = usual ? 'above what is usual' : 'above 0';
    $('z-caption').textContent = `${moved ? 'moved, ' : ''}${z.length} numbers, from ${format(low, 1)} to ${format(high, 1)}: filled bubbles are ${middle}, rings below, `
      + (sections.length > 1 ? 'and each row pair speaks to one resolution of the denoiser.' : 'and the denoiser sees them all at each resolution.');
  }

  function showNeighbours(chosen, z) {
    if (!networks.gallery) return;
    const { count, source, split, classes } = networks.gallery;
    const found = networks.nearest(z, NEIGHBOURS, chosen.index);
    refill($('neighbours'), found.map(({ index, distance }) => {
      const name = className(index);
      const button = thumb(galleryBytes(index), `${name}, distance ${format(distance, 3)}: look at it`, () => look(fromGallery(index)));
      button.append(make('span', { className: 'name' }, classes.length > 1 ? name : ''), make('span', { className: 'far' }, format(distance, 3)));
      return make('li', {}, button);
    }));
    const votes = new Map();
    for (const { index } of found) votes.set(className(index), (votes.get(className(index)) ?? 0) + 1);
    const [best, n] = [...votes].sort((a, b) => b[1] - a[1])[0] ?? ['', 0];
    const verdict = classes.length > 1 && n > found.length / 2 ? `${n} of these ${found.length} are ${plural(best)}. ` : '';
    $('neighbours-caption').textContent = `${verdict}The nearest of ${count.toLocaleString('en')} ${source} images (${split}); `
      + 'the number is the distance of the directions of z, 0 for the same and 2 for the opposite one. Class names were not used in training.';
    $('neighbours-section').hidden = false;
  }

  // ---- Looking at a picture and drawing it.

  /** @type {Chosen | null} */
  let first = null;
  /** @type {Chosen | null} */
  let second = null;
  let seed = 0;
  const steps = () => Number($('steps').value);
  const code = (z) => S.byStage(networks.model, z);

  function markPressed() {
    for (const button of document.querySelectorAll('#examples .thumb')) {
      button.setAttribute('aria-pressed', String(Number(button.dataset.index) === first?.index));
    }
  }

  /** Clears all that was made of a picture. */
  function clear() {
    for (const id of ['z', 'film']) $(id).replaceChildren();
    for (const id of ['z-caption', 'drawn-caption', 'film-caption', 'moved-caption']) $(id).textContent = '';
    for (const id of ['drawn', 'moved']) blank($(id), 'Nothing drawn yet');
    $('neighbours-section').hidden = true;
    clearPair();
  }

  /** Shows a picture, its numbers, its neighbours, and draws it. @param {Chosen} chosen */
  function look(chosen) {
    brought += 1;
    return start('Looking at the picture', async (token) => {
      first = chosen;
      resetSliders();
      const side = Math.round(Math.sqrt(chosen.bytes.length / 3));
      paint($('original'), chosen.bytes, `The picture: ${chosen.name}`);
      $('original-caption').textContent = `${chosen.name}, ${side}\u00a0×\u00a0${side} pixels.`;
      markPressed();
      showChosen();
      let z;
      try {
        z = await numbersOf(chosen);
        if (token.cancelled) throw new Cancelled();
      } catch (error) {
        clear();
        throw error;
      }
      showNeighbours(chosen, z);
      showPair();
      await drawFirst(token);
    }, 'The picture is drawn.');
  }

  const noGpu = 'the mean of the pictures with such numbers. It takes WebGPU to draw one of them.';

  async function drawFirst(token) {
    const z = first.z;
    const preview = networks.preview(z);
    showZ(z);
    $('film').replaceChildren();
    $('film-caption').textContent = '';
    if (preview) paint($('drawn'), toBytes(preview), 'A blurred first guess');
    if (!gpu) {
      $('drawn-caption').textContent = noGpu;
      if (preview) paint($('moved'), toBytes(preview), 'The mean picture of the moved numbers');
      return;
    }
    $('drawn-caption').textContent = 'drawing…';
    // More steps than there is room for: every second one of them, or fewer.
    const every = Math.ceil(steps() / FRAMES);
    const film = (x, name, label) => {
      $('film').append(make('li', {}, canvasOf(toBytes(x), label), make('span', {}, name)));
    };
    let [taken, all] = [0, 0];
    const [image] = await networks.draw([code(z)], {
      seed, token, steps: steps(),
      onStart: (x) => {
        paint($('drawn'), toBytes(x[0]), 'Noise to begin with');
        film(x[0], 'start', 'Noise to begin with');
      },
      onStep: ({ i, of, x }) => {
        paint($('drawn'), toBytes(x[0]), `Being drawn: step ${i} of ${of}`);
        if ((of - i) % every === 0) film(x[0], String(i), `After step ${i}`);
        $('drawn-caption').textContent = `step ${i} of ${of}…`;
        progress(i, of, `Drawing: step ${i} of ${of}`);
        showStep();
        [taken, all] = [i, of];
      },
    }).catch((error) => {
      const text = taken > 0 ? `stopped after step ${taken} of ${all}.` : 'stopped before the first step.';
      $('drawn-caption').textContent = text;
      $('drawn').setAttribute('aria-label', `The picture, ${text}`);
      throw error;
    });
    paint($('drawn'), toBytes(image), `The picture drawn from its ${z.length} numbers`);
    if (places.every((place) => place === 0)) {
      paint($('moved'), toBytes(image), 'The picture with its own numbers');
      $('moved-caption').textContent = 'Nothing is moved yet: the picture from its own numbers.';
    }
    const from = networks.linear && networks.model.sample.start_level !== null
      ? 'It began with a blurred mean of what has such numbers, under noise.' : 'It began with nothing but noise.';
    $('drawn-caption').textContent = `drawn from its ${z.length} numbers alone, in ${all} steps.`;
    $('film-caption').textContent = `How it was drawn. ${from} Each step took some noise away, and put detail that goes with the numbers in its place.`;
    state.drawn += 1;
  }

  function showStep() {
    const seconds = networks.seconds[1];
    if (seconds === null) return;
    state.stepMs = seconds * 1e3;
    setFact('Denoiser step', `${seconds < 0.01 ? (seconds * 1e3).toFixed(1) : Math.round(seconds * 1e3)} ms`);
  }

  /** Whether so many pictures are drawn within a few seconds. */
  function quick(pictures) {
    const { 1: one, 8: eight } = networks.seconds;
    if (!gpu || one === null) return false;
    const evaluations = steps() * (1 + S.guidanceParts(networks.model, networks.model.sample.guidance).length);
    const each = eight === null ? one : Math.min(one, eight / 8);
    return evaluations * each * pictures < UNASKED;
  }

  // ---- Directions.

  const places = [];
  let waiting = null;

  function buildSliders() {
    const directions = networks.page.directions ?? [];
    $('tab-directions').hidden = directions.length === 0;
    for (const [kind, title] of [['component', 'Components, with their share of all variance'], ['class', 'Classes']]) {
      const own = directions.map((d, i) => ({ ...d, i })).filter((d) => d.kind === kind);
      if (own.length === 0) continue;
      const set = make('fieldset', { className: 'sliders' }, make('legend', {}, title));
      for (const { name, i, share } of own) {
        places[i] = 0;
        const shown = kind === 'component' ? `${name.replace('PC', 'No.')} · ${(100 * share).toFixed(0)} %` : name;
        const range = make('input', { type: 'range', min: '-3', max: '3', step: '0.25', id: `slider-${i}` });
        range.value = '0';
        const output = make('output', { htmlFor: range.id }, '0');
        range.addEventListener('input', () => {
          places[i] = Number(range.value);
          output.textContent = places[i] > 0 ? `+${places[i]}` : format(places[i], 2).replace(/\.?0+$/, '') || '0';
          range.setAttribute('aria-valuetext', `${range.value} deviations`);
          movePicture();
        });
        set.append(make('div', { className: 'slider' }, make('label', { htmlFor: range.id, title: name }, shown), range, output));
      }
      $('sliders').append(set);
    }
  }

  function resetSliders() {
    places.fill(0);
    for (const range of document.querySelectorAll('#sliders input')) {
      range.value = '0';
      range.setAttribute('aria-valuetext', '0 deviations');
    }
    for (const output of document.querySelectorAll('#sliders output')) output.textContent = '0';
  }

  /** The blurred picture at once, the drawn one as soon as the sliders rest. */
  function movePicture() {
    if (!first?.z) return;
    const z = networks.moved(first.z, places);
    const preview = networks.preview(z);
    if (preview) paint($('moved'), toBytes(preview), 'A blurred first guess of the moved picture');
    showZ(z, places.some((place) => place !== 0));
    clearTimeout(waiting);
    if (!gpu) {
      $('moved-caption').textContent = `With the moved numbers: ${noGpu}`;
      return;
    }
    waiting = setTimeout(() => start('Drawing the moved picture', async (token) => {
      const [image] = await networks.draw([code(z)], {
        seed, token, steps: steps(),
        onStep: ({ i, of, x0 }) => {
          paint($('moved'), toBytes(x0[0]));
          progress(i, of, `Drawing the moved picture: step ${i} of ${of}`);
        },
      });
      paint($('moved'), toBytes(image), 'The moved picture');
      const moved = networks.page.directions.filter((_, i) => places[i] !== 0).map(({ name }) => name);
      $('moved-caption').textContent = moved.length > 0
        ? `The picture from moved numbers (${moved.join(', ')}), from the same noise.` : 'The picture from its own numbers.';
    }, 'The moved picture is drawn.'), 180);
  }

  // ---- Two pictures.

  function choose(chosen) {
    brought += 1;
    second = chosen;
    clearPair();
    showChosen();
    return start('Looking at the second picture', async () => {
      await numbersOf(chosen);
      showPair();
    });
  }

  /** Clears what lies between the two pictures. */
  function clearPair() {
    $('way').replaceChildren();
    for (const id of ['between-caption', 'mixed-caption']) $(id).textContent = '';
    for (const id of ['mixed', 'reverse']) blank($(id), 'Not drawn yet');
  }

  async function bothNumbers() {
    if (!first || !second) throw new SodaError('This takes two pictures: choose both first.');
    return [await numbersOf(first), await numbersOf(second)];
  }

  function showChosen() {
    for (const picker of document.querySelectorAll('[data-second]')) {
      const [a, b] = picker.querySelectorAll('canvas.chosen');
      if (first) paint(a, first.bytes, `The first picture: ${first.name}`);
      if (second) paint(b, second.bytes, `The second picture: ${second.name}`);
    }
  }

  /** Shows both pictures, and what lies between them as far as that costs nothing. */
  function showPair() {
    showChosen();
    if (!first?.z || !second?.z) return;
    const way = line(first.z, second.z);
    showWay(way.map((z) => networks.preview(z)), 'blurred first guess');
    $('between-caption').textContent = networks.linear ? 'Blurred first guesses; drawing makes pictures of them.' : '';
    showMix(mixtures().map((z) => networks.preview(z)), 'A blurred first guess of a mixture');
    describeMix();
  }

  function line(a, b) {
    return Array.from({ length: WAY }, (_, k) => {
      const t = k / (WAY - 1);
      return a.map((v, i) => (1 - t) * v + t * b[i]);
    });
  }

  function showWay(images, what) {
    if (images.some((image) => !image)) return;
    $('way').replaceChildren(...images.map((image, k) => {
      const share = Math.round((100 * k) / (WAY - 1));
      const label = k === 0 ? 'first' : k === WAY - 1 ? 'second' : `${share} %`;
      return make('li', {}, canvasOf(toBytes(image), `${what}, ${share} % of the way`), make('span', {}, label));
    }));
  }

  const way = () => start('Drawing the way', async (token) => {
    const [a, b] = await bothNumbers();
    const draw = await networks.draw(line(a, b).map(code), {
      seed, same: true, token, steps: steps(),
      onStep: ({ i, of, x0 }) => {
        showWay(x0, `Step ${i}`);
        progress(i, of, `Drawing eight pictures: step ${i} of ${of}`);
      },
    });
    showWay(draw, 'Drawn picture');
    $('between-caption').textContent = 'All eight begin with the same noise: what differs comes from the numbers.';
  }, 'The way is drawn.');

  /** The parts of z that come from the second picture. */
  const chosenParts = () => [...document.querySelectorAll('#switches [aria-pressed="true"]')].map((b) => Number(b.dataset.part));

  function mixtures() {
    const [a, b] = [code(first.z), code(second.z)];
    return [S.mix(networks.model, a, b, chosenParts()), S.mix(networks.model, b, a, chosenParts())];
  }

  function showMix(images, what) {
    if (images.some((image) => !image)) return;
    paint($('mixed'), toBytes(images[0]), what);
    paint($('reverse'), toBytes(images[1]), `${what}, the other way round`);
  }

  const partName = (i) => {
    const { stages, stage_sides: sides } = networks.model;
    return i === stages - 1 ? `the middle (${sides[i]}\u00a0×\u00a0${sides[i]})` : `${sides[i]}\u00a0×\u00a0${sides[i]}`;
  };

  function describeMix() {
    const parts = chosenParts();
    const words = parts.length === 0 ? 'nothing' : parts.map(partName).join(', ');
    $('mixed-caption').textContent = `The first picture, with ${words} of the second one.`;
  }

  function buildMix() {
    const { stages, sections } = networks.model;
    $('mix-about').textContent = (sections.length > 1
      ? 'Each part of the numbers speaks to one resolution of the denoiser. '
      : 'Each resolution of the denoiser is told the numbers: here some hear those of another picture. ')
      + 'Fine resolutions decide about detail and colour, coarse ones about what is where.';
    for (let i = 0; i < stages; i++) {
      const button = make('button', { type: 'button', 'aria-pressed': String(i < Math.floor(stages / 2)) }, partName(i));
      button.dataset.part = String(i);
      button.addEventListener('click', () => {
        button.setAttribute('aria-pressed', String(button.getAttribute('aria-pressed') !== 'true'));
        if (!first?.z || !second?.z) return;
        showMix(mixtures().map((z) => networks.preview(z)), 'A blurred first guess of a mixture');
        describeMix();
        if (quick(2)) blend();
      });
      $('switches').append(button);
    }
  }

  const blend = () => start('Drawing the mixture', async (token) => {
    await bothNumbers();
    describeMix();
    const images = await networks.draw(mixtures(), {
      seed, same: true, token, steps: steps(),
      onStep: ({ i, of, x0 }) => {
        showMix(x0, `Step ${i} of ${of}`);
        progress(i, of, `Drawing the mixture: step ${i} of ${of}`);
      },
    });
    showMix(images, 'The mixture');
  }, 'The mixture is drawn.');

  function buildPickers() {
    for (const picker of document.querySelectorAll('[data-second]')) {
      const figure = (title) => make('div', {}, make('span', { className: 'label' }, title), make('canvas', { className: 'pixels chosen', role: 'img', width: 32, height: 32, 'aria-label': 'No picture yet' }));
      const others = make('div', { className: 'others' });
      const fill = () => others.replaceChildren(...some(networks.gallery?.count ?? 0, 8).map((index) => (
        thumb(galleryBytes(index), `Second picture: ${className(index)}`, () => pick(fromGallery(index))))));
      fill();
      const file = make('button', { type: 'button' }, 'Open a file');
      file.addEventListener('click', () => openFile(pick));
      const more = make('button', { type: 'button' }, 'Others');
      more.addEventListener('click', fill);
      picker.append(figure('First'), figure('Second'), make('div', {}, make('span', { className: 'label' }, 'Choose the second'), others, make('div', { className: 'bar' }, file, more)));
    }
  }

  /** Takes a second picture and draws what the open tab shows, if that is quick. */
  async function pick(chosen) {
    await choose(chosen);
    drawOpenTab();
  }

  function drawOpenTab() {
    if (!first?.z || !second?.z) return;
    if (!$('between').hidden && quick(WAY)) way();
    if (!$('mix').hidden && quick(2)) blend();
  }

  // ---- New pictures.

  let drawnBefore = 0;

  const invent = () => start('Drawing new pictures', async (token) => {
    const zs = Array.from({ length: WAY }, (_, i) => networks.drawZ(i, drawnBefore));
    const classes = networks.gallery?.classes.length ?? 0;
    $('new-caption').textContent = '';
    const show = (images, what, done) => {
      refill($('new-pictures'), images.map((image, i) => {
        const bytes = toBytes(image);
        const near = classes > 1 ? className(networks.nearest(zs[i], 1)[0].index) : null;
        const button = thumb(bytes, `${what} ${i + 1}${near ? `, like ${article(near)}` : ''}${done ? ': look at it' : ''}`,
          () => look(fromBytes(bytes, 'a picture that the denoiser made up')));
        button.disabled = !done;
        if (near) button.append(make('span', { className: 'far' }, `nearest: ${near}`));
        return make('li', {}, button);
      }));
    };
    const previews = zs.map((z) => networks.preview(z));
    if (previews.every((image) => image)) show(previews, 'Blurred first guess', false);
    const images = await networks.draw(zs.map(code), {
      seed: drawnBefore, varied: true, token, steps: steps(),
      onStep: ({ i, of, x0 }) => {
        show(x0, `Step ${i}, picture`, false);
        progress(i, of, `Drawing eight new pictures: step ${i} of ${of}`);
      },
    });
    show(images, 'New picture', true);
    drawnBefore += 1;
    $('new-button').textContent = 'Draw others';
    $('new-caption').textContent = 'Press one to look at its numbers.'
      + (classes > 1 ? ' Below each stands the class of the training image whose numbers are nearest.' : '');
  }, 'New pictures are drawn.');

  // ---- The benchmark.

  const three = (v) => (v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v >= 0.1 ? v.toFixed(2) : v.toPrecision(2));
  const duration = (ms) => (ms < 1 ? `${three(ms * 1e3)} µs` : ms < 1000 ? `${three(ms)} ms` : `${three(ms / 1e3)} s`);
  let report = null;

  function benchRow(row) {
    const shape = row.shape?.map((n) => n.toLocaleString('en')).join('\u00a0×\u00a0');
    const what = [shape, row.width !== null ? `width ${row.width}, batch ${row.batch}` : null, row.variant];
    const cell = (v, text) => make('td', {}, v === null ? '–' : text(v));
    const detail = make('small', {}, ` ${what.filter((part) => part).join(', ')}`);
    $('bench-rows').append(make('tr', {},
      make('td', {}, row.op.replaceAll('_', ' '), detail),
      cell(row.median_ms, duration),
      make('td', {}, `${duration(row.min_ms)} – ${duration(row.max_ms)}`),
      cell(row.gb_per_s, three), cell(row.tflops, three),
      cell(row.share_of_peak, (v) => `${(100 * v).toFixed(0)} %`), cell(row.images_per_s, three)));
  }

  /** One line for all that was left out for the same reason, one after the other. */
  function leftOut(name, reason) {
    const last = $('bench-rows').lastElementChild;
    if (last?.dataset.reason === reason) {
      const more = Number(last.dataset.more) + 1;
      last.dataset.more = String(more);
      last.lastElementChild.textContent = `left out, like ${more} more: ${reason}`;
      return;
    }
    const row = make('tr', {}, make('td', {}, name), make('td', { colSpan: 6 }, `left out: ${reason}`));
    Object.assign(row.dataset, { reason, more: '0' });
    $('bench-rows').append(row);
  }

  /** @param {any} token @param {Function} _ progress, which it shows itself @param {number} [seconds] after which nothing new begins */
  async function measure(token, _, seconds) {
    $('bench-rows').replaceChildren();
    $('bench-scroll').hidden = false;
    $('bench-save').hidden = true;
    report = await Bench.run(networks, {
      token,
      seconds,
      onCompile: (done, all) => progress(done, all, `Compiling kernels: ${done} of ${all}`),
      onCase: (i, all, op) => progress(i, all, `Measuring ${op.replaceAll('_', ' ')}: ${i + 1} of ${all}`),
      onRow: benchRow,
      onSkipped: ({ op, reason }) => leftOut(op.replaceAll('_', ' '), reason),
    });
    $('bench-save').hidden = false;
    $('bench-caption').replaceChildren(
      `${report.adapter}, as the browser calls it. “Of peak” is the time that the copy or the multiply-adds above would need, over `
      + 'the time taken. ', make('code', {}, 'soda bench --compare A.json B.json'), ' compares the downloaded files of two browsers.');
    return report;
  }

  function save() {
    const url = URL.createObjectURL(new Blob([`${JSON.stringify(report, null, 2)}\n`], { type: 'application/json' }));
    const link = make('a', { href: url, download: 'soda-bench-webgpu.json' });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  // ---- Bringing pictures.

  let takeFile = null;
  /** How many pictures were brought or chosen: one that took long to open doesn't replace a newer one. */
  let brought = 0;

  function openFile(then) {
    takeFile = then;
    $('file').value = '';
    $('file').click();
  }

  /** @param {Blob | null | undefined} file @param {(chosen: Chosen) => any} then */
  async function bring(file, then, name = null) {
    if (!networks) return;
    if (!file) return void notice('There was no picture in that.');
    brought += 1;
    const own = brought;
    try {
      const bytes = await Picture.open(file, networks.model.side);
      if (own !== brought) return;
      await then(fromBytes(bytes, name ?? (file.name ? `your “${file.name}”` : 'your picture')));
    } catch (error) {
      tell(error);
    }
  }

  const imageIn = (transfer) => [...(transfer?.files ?? [])].find((f) => f.type.startsWith('image/')) ?? transfer?.files?.[0];

  function buildBringing() {
    $('file-button').addEventListener('click', () => openFile(look));
    $('file').addEventListener('change', () => { if ($('file').files[0]) bring($('file').files[0], takeFile ?? look); });
    document.addEventListener('paste', (event) => {
      const file = imageIn(event.clipboardData);
      if (file) bring(file, look, 'your pasted picture');
      else notice('There is no picture in the clipboard.');
    });
    if (navigator.clipboard?.read) {
      $('paste-button').hidden = false;
      $('paste-button').addEventListener('click', async () => {
        try {
          const items = await navigator.clipboard.read();
          const item = items.find((one) => one.types.some((type) => type.startsWith('image/')));
          if (!item) return notice('There is no picture in the clipboard.');
          await bring(await item.getType(item.types.find((type) => type.startsWith('image/'))), look, 'your pasted picture');
        } catch {
          notice('The browser did not let the page look at the clipboard: press Ctrl or Command and V instead.');
        }
      });
    }
    let over = 0;
    const dragged = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
    document.addEventListener('dragenter', (event) => { if (dragged(event)) { over += 1; $('drop').hidden = false; } });
    document.addEventListener('dragleave', (event) => { if (dragged(event)) { over -= 1; $('drop').hidden = over <= 0; } });
    document.addEventListener('drop', (event) => {
      over = 0;
      $('drop').hidden = true;
      bring(imageIn(event.dataTransfer), look);
    });
    if (navigator.mediaDevices?.getUserMedia) buildCamera();
  }

  function buildCamera() {
    const [dialog, video] = [$('camera'), $('video')];
    const stop = () => {
      video.srcObject?.getTracks().forEach((track) => track.stop());
      video.srcObject = null;
    };
    $('camera-button').hidden = false;
    $('camera-button').addEventListener('click', async () => {
      // A second stream would be left on.
      $('camera-button').disabled = true;
      try {
        video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' } });
        dialog.showModal();
        await video.play();
      } catch (error) {
        // Closing the dialog ends `play`, too.
        if (error.name === 'AbortError') return;
        dialog.close();
        stop();
        $('camera-button').disabled = false;
        notice('The camera can\'t be used: there is none, or the browser was told not to let this page see it.');
      }
    });
    dialog.addEventListener('close', () => {
      stop();
      $('camera-button').disabled = false;
    });
    $('close-button').addEventListener('click', () => dialog.close());
    $('shoot-button').addEventListener('click', () => {
      if (!video.videoWidth) return;
      const bytes = Picture.square(video, video.videoWidth, video.videoHeight, networks.model.side);
      dialog.close();
      look(fromBytes(bytes, 'your photo'));
    });
  }

  // ---- The page as a whole.

  function buildTabs() {
    const tabs = [...document.querySelectorAll('[role="tab"]')];
    const select = (tab, focus) => {
      for (const one of tabs) {
        one.setAttribute('aria-selected', String(one === tab));
        one.tabIndex = one === tab ? 0 : -1;
        $(one.getAttribute('aria-controls')).hidden = one !== tab;
      }
      if (focus) tab.focus();
    };
    for (const tab of tabs) {
      tab.addEventListener('click', () => {
        select(tab, false);
        if (tab.id === 'tab-new' && $('new-pictures').children.length === 0 && quick(WAY)) invent();
        else if (!current) drawOpenTab();
      });
      tab.addEventListener('keydown', (event) => {
        const seen = tabs.filter((one) => !one.hidden);
        const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        const at = event.key === 'Home' ? 0 : event.key === 'End' ? seen.length - 1 : by && seen.indexOf(tab) + by;
        if (at === undefined) return;
        event.preventDefault();
        select(seen[(at + seen.length) % seen.length], true);
      });
    }
    $('tab-new').hidden = !networks.prior;
    for (const id of ['tab-between', 'tab-mix']) $(id).hidden = false;
    select(tabs.find((tab) => !tab.hidden), false);
  }

  function setFact(name, value) {
    let term = [...$('facts').querySelectorAll('dt')].find((dt) => dt.textContent === name);
    if (!term) {
      term = make('dt', {}, name);
      $('facts').append(make('div', {}, term, make('dd')));
    }
    term.nextElementSibling.textContent = value;
  }

  function fillExamples() {
    if (!networks.gallery) return;
    const chosen = some(networks.gallery.count, EXAMPLES);
    $('examples').replaceChildren(...chosen.map((index) => {
      const button = thumb(galleryBytes(index), `Example: ${className(index)}`, () => look(fromGallery(index)));
      button.dataset.index = String(index);
      return make('li', {}, button);
    }));
    markPressed();
    return chosen;
  }

  function buildFacts(page) {
    const { model, program, commit } = page;
    for (const element of document.querySelectorAll('[data-fact="z-dim"]')) element.textContent = String(model.z_dim);
    document.title = `SODA: a picture in ${model.z_dim} numbers`;
    const [own, all] = [model.sample.steps, new Set([2, 4, 8, 12, 25, 50, model.sample.steps])];
    const most = networks.schedule.alphaBar.length - 1;
    for (const n of [...all].sort((a, b) => a - b).filter((n) => n <= most)) {
      $('steps').append(make('option', { value: String(n), selected: n === own }, String(n)));
    }
    setFact('Weights', `${model.name} (${model.sha256.slice(0, 8)})`);
    if (model.images) setFact('Seen in training', `${model.images.toLocaleString('en')} images`);
    if (page.gallery) setFact('Pictures', `${page.gallery.count.toLocaleString('en')} of ${page.gallery.source}`);
    $('made').textContent = `Made by soda ${program}${commit ? ` (${commit})` : ''}.`;
  }

  function buildControls() {
    // They were off while the page was loading.
    for (const button of document.querySelectorAll('button, select')) button.disabled = false;
    $('cancel-button').addEventListener('click', () => {
      if (!current) return;
      current.token.cancelled = true;
      $('status-text').textContent = 'Stopping…';
    });
    $('again-button').addEventListener('click', () => {
      seed += 1;
      resetSliders();
      if (first?.z) start('Drawing with other noise', drawFirst, 'The picture is drawn.');
    });
    $('smooth-button').addEventListener('click', () => {
      const smooth = document.documentElement.classList.toggle('smooth');
      $('smooth-button').setAttribute('aria-pressed', String(smooth));
    });
    $('shuffle-button').addEventListener('click', fillExamples);
    $('reset-button').addEventListener('click', () => {
      resetSliders();
      movePicture();
    });
    $('between-button').addEventListener('click', way);
    $('mix-button').addEventListener('click', blend);
    $('new-button').addEventListener('click', invent);
    $('bench-button').addEventListener('click', () => start('Measuring', measure, 'Everything is measured.'));
    $('bench-save').addEventListener('click', save);
  }

  /** Turns what takes a GPU on or off. @param {boolean} on */
  function switchGpu(on) {
    gpu = on;
    const takeGpu = ['again-button', 'steps', 'between-button', 'mix-button', 'new-button', 'bench-button'];
    takeGpu.forEach((id) => { $(id).disabled = !on; });
  }

  /** What takes a GPU is off where there is none. */
  function withoutGpu(error) {
    switchGpu(false);
    failSoon = error;
    tell(error);
    $('shuffle-button').hidden = !networks?.gallery;
  }

  /** Reads the file that this page is. */
  async function readPage() {
    const text = $('soda-page').textContent;
    let page;
    try {
      page = JSON.parse(text);
    } catch {
      throw new SodaError('This file is damaged or cut short: download or export it again.');
    }
    if (page.format !== 'soda-page' || page.version !== PAGE_VERSION) {
      throw new SodaError(`This file is of version ${page.version}, but its scripts read version ${PAGE_VERSION}: export it again.`);
    }
    progress(0, 1, 'Reading the weights');
    await frame();
    const blob = $('soda-blob');
    const bytes = await decodeBlob(blob.textContent, page.blob);
    // Tens of megabytes that nobody needs any more.
    blob.remove();
    return { page, tensors: new Tensors(page.tensors, bytes) };
  }

  async function open() {
    const { page, tensors } = await readPage();
    networks = new Networks(page, tensors, null);
    buildFacts(page);
    buildControls();
    buildBringing();
    buildSliders();
    buildMix();
    buildPickers();
    buildTabs();
    const examples = fillExamples();
    $('shuffle-button').hidden = !examples;
    if (networks.gallery) {
      usual = spread(networks.gallery.z, networks.model.z_dim);
    }
    switchGpu(false);
    try {
      await job('Compiling', async (token) => {
        state.phase = 'compiling';
        const player = await Player.open(page.plan, tensors);
        networks.player = player;
        player.onfailure = (error) => {
          if (current) current.token.cancelled = true;
          state.phase = 'failed';
          withoutGpu(error);
        };
        setFact('GPU', networks.adapterName());
        await player.compile(['encode_1', 'denoise_1'], (done, all) => {
          progress(done, all, `Preparing your GPU: kernel ${done} of ${all}`);
        });
        if (token.cancelled) throw new SodaError('You stopped the page before it was ready: reload it to begin again.');
        switchGpu(true);
      }, true);
    } catch (error) {
      withoutGpu(error);
    }
    return examples;
  }

  const opened = open();

  globalThis.soda = {
    state,
    /** Fulfilled once the networks can run; rejected with the sentence that the page shows. */
    ready: opened.then(() => {
      if (!gpu) throw failSoon;
    }),
    /** z of bytes [n, side, side, 3]: [n, Z]. */
    async encode(pixels) {
      const size = 3 * networks.model.side ** 2;
      const out = [];
      for (let at = 0; at < pixels.length; at += size) out.push(await networks.encode(pixels.slice(at, at + size)));
      return Float32Array.from(out.flatMap((z) => [...z]));
    },
    /** The picture of a z: [3, side, side] in [-1, 1]. */
    async reconstruct({ z, seed: own = 0, steps: n, onStep }) {
      return (await networks.draw([code(Float32Array.from(z))], { seed: own, steps: n, onStep }))[0];
    },
    /** What the benchmark's file holds. */
    bench: (seconds) => job('Measuring', (token, show) => measure(token, show, seconds)),
    /** What tests press. */
    get networks() { return networks; },
    get busy() { return current !== null; },
  };
  globalThis.soda.ready.catch(() => {});

  opened.then(async (examples) => {
    if (networks.gallery) {
      const [one] = examples;
      second ??= fromGallery(some(networks.gallery.count, 2).find((i) => i !== one) ?? one);
      // Whoever chose a picture while the page prepared the GPU keeps it.
      if (!first && !current) await look(fromGallery(one));
      try {
        if (gpu) await numbersOf(second);
        showPair();
      } catch (error) {
        tell(error);
      }
    }
  }, (error) => {
    state.phase = 'failed';
    $('status').hidden = true;
    tell(error);
    $('main').hidden = true;
  });
})();
