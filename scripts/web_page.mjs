// Tests a page of `soda export --web` in headless Chromium, on its software GPU:
// node web_page.mjs [FILE.html] [options]
//   --check REFERENCE.json   compares z of ten images and a reconstruction with the program's
//                            (see docs/web.md)
//   --bench FILE.json        writes the first rows of the page's benchmark
//   --shots DIR              takes screenshots of the page, wide and narrow, light and dark
//   --report FILE.html       checks another page in the same way; screenshots go to --shots too
//   --minutes N              gives up on the page's first picture after N minutes (default 10)
// In any case the page must open from disk and from a server, make no requests elsewhere and report
// no errors. scripts/web_page.sh installs what this needs.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

const { values: options, positionals: [file] } = parseArgs({
  allowPositionals: true,
  options: {
    check: { type: 'string' },
    bench: { type: 'string' },
    shots: { type: 'string' },
    report: { type: 'string' },
    minutes: { type: 'string', default: '10' },
  },
});
if (!file && !options.report) {
  const header = readFileSync(new URL(import.meta.url), 'utf8').split('\n').slice(0, 10);
  console.error(header.join('\n').replaceAll('// ', ''));
  process.exit(2);
}
const require = createRequire(join(resolve(process.env.PUPPETEER ?? '.'), 'index.js'));
const puppeteer = (await import(pathToFileURL(require.resolve('puppeteer-core')))).default;

const PATIENCE = Number(options.minutes) * 60_000;
/** Widths in pixels: a laptop's and a phone's. */
const WIDTHS = [1280, 420];
const failures = [];
const fail = (text) => {
  failures.push(text);
  console.error(`FAILED: ${text}`);
};
const seconds = (start) => ((performance.now() - start) / 1e3).toFixed(1);

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  protocolTimeout: PATIENCE,
  args: [
    '--no-sandbox',
    '--disable-dev-shm-usage',
    '--enable-unsafe-webgpu',
    '--use-webgpu-adapter=swiftshader',
  ],
});

/** Makes each kernel take a second longer to compile; runs in a page, before its own scripts. */
function compileSlowly() {
  const { prototype } = GPUDevice;
  const compile = prototype.createComputePipelineAsync;
  prototype.createComputePipelineAsync = async function later(...how) {
    await new Promise((done) => { setTimeout(done, 1000); });
    return compile.apply(this, how);
  };
}

/** Opens a tab; errors and requests to anything but `own` count as failures. */
async function open(url, own, first = null, width = WIDTHS[0]) {
  const page = await browser.newPage();
  if (first) await page.evaluateOnNewDocument(first);
  await page.setViewport({ width, height: 900 });
  page.on('console', (message) => {
    if (['error', 'assert'].includes(message.type())) {
      fail(`${url}: the console says: ${message.text()}`);
    }
  });
  page.on('pageerror', (error) => fail(`${url}: ${error.message}`));
  await page.setRequestInterception(true);
  page.on('request', (request) => {
    const asked = request.url();
    const inline = asked.startsWith('data:') || asked.startsWith('blob:');
    if (asked === url || inline || (own && asked.startsWith(own))) {
      return request.continue();
    }
    fail(`${url}: it requests ${asked}`);
    return request.abort();
  });
  await page.goto(url);
  return page;
}

/** Waits until the page has drawn its first picture. */
async function drawn(page) {
  const start = performance.now();
  await page.waitForFunction(
    'soda.state.message || soda.state.phase === "failed" || (soda.state.drawn > 0 && !soda.busy)',
    { timeout: PATIENCE },
  );
  const { phase, message } = await page.evaluate('soda.state');
  if (phase === 'failed' || message) fail(`the page says: ${message}`);
  return seconds(start);
}

/** Takes screenshots of a page at each width; none may scroll sideways. */
async function photograph(page, name, themes) {
  for (const width of WIDTHS) {
    await page.setViewport({ width, height: 900 });
    for (const theme of themes) {
      await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: theme }]);
      // Waits for a frame and the page's own transitions.
      await new Promise((done) => setTimeout(done, 400));
      const { has, room } = await page.evaluate(
        '({ has: document.documentElement.scrollWidth, room: innerWidth })',
      );
      if (has > room) fail(`${name} scrolls sideways at ${width} pixels: it is ${has} wide`);
      if (options.shots) {
        mkdirSync(options.shots, { recursive: true });
        const path = join(options.shots, `${name}-${width}${theme === 'dark' ? '-dark' : ''}.png`);
        await page.screenshot({ path, fullPage: true });
        console.log(`wrote ${path}`);
      }
    }
  }
}

/** Takes WebGPU away; runs in a page, before its own scripts. */
function withoutWebGpu() {
  Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined });
}

/** What belongs to the picture that is looked at. */
const seen = (page) => page.evaluate(() => ({
  message: soda.state.message,
  bubbles: document.querySelectorAll('#z circle').length,
  neighbours: !document.getElementById('neighbours-section').hidden,
  drawn: document.getElementById('drawn-caption').textContent,
}));

/** Drops a picture on the page that is none of its examples. */
const dropPicture = (page) => page.evaluate(async () => {
  const canvas = Object.assign(document.createElement('canvas'), { width: 64, height: 64 });
  canvas.getContext('2d').fillRect(8, 8, 32, 16);
  const blob = await new Promise((done) => { canvas.toBlob(done); });
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([blob], 'dropped.png', { type: 'image/png' }));
  document.dispatchEvent(new DragEvent('drop', { dataTransfer, cancelable: true }));
});
const idle = (page) => page.waitForFunction('!soda.busy', { timeout: PATIENCE });

/** Without WebGPU the examples have numbers; a picture of one's own has none of another's. */
async function checkWithoutGpu(url) {
  const page = await open(url, null, withoutWebGpu);
  await page.waitForFunction('document.querySelectorAll("#z circle").length > 0');
  const example = await seen(page);
  if (!(example.message?.includes('WebGPU') && example.neighbours)) {
    fail(`an example without WebGPU: ${JSON.stringify(example)}`);
  }
  await dropPicture(page);
  await page.waitForFunction('soda.state.message?.startsWith("Only the examples")');
  const own = await seen(page);
  if (own.bubbles > 0 || own.neighbours || own.drawn) {
    fail(`a picture without numbers is shown with another's: ${JSON.stringify(own)}`);
  }
  await page.evaluate('document.querySelector("#examples .thumb").click()');
  await page.waitForFunction('document.querySelectorAll("#z circle").length > 0');
  console.log('without WebGPU: examples have their numbers, other pictures none');
  await page.close();
}

/** A file that arrived in part says so. */
async function checkCutShort(html) {
  const path = join(mkdtempSync(join(tmpdir(), 'soda-page-')), 'cut.html');
  writeFileSync(path, html.subarray(0, html.length / 2));
  const page = await open(pathToFileURL(path).href, null);
  const shown = await page.evaluate(() => {
    const notice = document.getElementById('notice');
    return notice.hidden ? null : notice.textContent;
  });
  if (!shown?.includes('did not arrive whole')) fail(`half of the file says: ${shown}`);
  console.log('half of the file: the page says that it did not arrive whole');
  await page.close();
}

/** Stops a drawing, and looks at another tab and back. */
async function checkStopAndTabs(page) {
  await page.evaluate('document.getElementById("again-button").click()');
  await page.waitForFunction('/^step [2-9]/.test(document.getElementById("drawn-caption").textContent)');
  await page.evaluate('document.getElementById("cancel-button").click()');
  await idle(page);
  const { drawn: caption } = await seen(page);
  if (!/^stopped after step \d+ of \d+\.$/.test(caption)) fail(`a stopped drawing says: ${caption}`);

  const first = 'document.querySelector("#way canvas")?.getAttribute("aria-label")';
  await page.evaluate(() => {
    document.getElementById('steps').value = '2';
    document.getElementById('tab-between').click();
    document.getElementById('between-button').click();
  });
  await idle(page);
  const before = await page.evaluate(first);
  await page.evaluate('document.getElementById("tab-mix").click()');
  await idle(page);
  await page.evaluate('document.getElementById("tab-between").click()');
  await idle(page);
  const after = await page.evaluate(first);
  if (!(before?.startsWith('Drawn picture') && after === before)) {
    fail(`the way between two pictures is "${before}", and "${after}" after a look at another tab`);
  }
  console.log('a stopped drawing says so, and tabs keep their pictures');
}

/** Compares z and a reconstruction with the program's. */
async function check(page) {
  const reference = JSON.parse(readFileSync(options.check, 'utf8'));
  const start = performance.now();
  const z = await page.evaluate(async (images) => {
    const out = [];
    for (const image of images) out.push([...await soda.encode(Uint8Array.from(image))]);
    return out;
  }, reference.images);
  const most = Math.max(...reference.z.flat().map(Math.abs));
  const distances = reference.z.flatMap((own, i) => own.map((v, k) => Math.abs(v - z[i][k])));
  const worst = Math.max(...distances) / most;
  const found = worst.toExponential(1);
  console.log(`z of ${z.length} images: within ${found} of the largest |z|, ${seconds(start)} s`);
  if (!(worst <= 1e-3)) {
    fail(`z differs from the program's by ${worst} of the largest |z|, more than 1e-3`);
  }
  // Negative control: another image has a different z.
  const other = Math.max(...reference.z[0].map((v, k) => Math.abs(v - z[1][k]))) / most;
  if (!(other > 1e-2)) fail('z of two different images is the same');

  // A batch of eight gives the same as eight single images.
  const apart = await page.evaluate(async (image) => {
    const { player, model } = soda.networks;
    const seen = SodaPicture.view(image, model.side, model.source_side);
    const one = Float32Array.from(seen, (v) => v / 255 - 0.5);
    const eight = new Float32Array(8 * one.length);
    for (let i = 0; i < 8; i++) eight.set(one.map((v) => v * (1 + i / 8)), i * one.length);
    const { z: all } = await player.run('encode_8', { image: eight });
    let worst = 0;
    for (let i = 0; i < 8; i++) {
      const single = eight.slice(i * one.length, (i + 1) * one.length);
      const { z: own } = await player.run('encode_1', { image: single });
      own.forEach((v, k) => { worst = Math.max(worst, Math.abs(v - all[i * own.length + k])); });
    }
    return worst;
  }, reference.images[0]);
  const batched = apart / most;
  console.log(`z of eight images at once: within ${batched.toExponential(1)} of single images`);
  if (!(batched <= 1e-5)) {
    fail(`z of eight images at once differs from single images by ${batched} of the largest |z|`);
  }

  const again = performance.now();
  const { image, seed, pixels } = reference.reconstruction;
  const psnr = (a) => {
    const error = pixels.reduce((sum, v, i) => sum + ((v - a[i]) / 2) ** 2, 0) / pixels.length;
    return a.length === pixels.length ? -10 * Math.log10(error) : NaN;
  };
  const reconstruct = (own) => page.evaluate(
    async (given, number) => [...await soda.reconstruct({ z: given, seed: number })],
    reference.z[image],
    own,
  );
  const same = psnr(await reconstruct(seed));
  console.log(`reconstruction: PSNR ${same.toFixed(1)} dB to the program's, ${seconds(again)} s`);
  if (!(same >= 40)) {
    fail(`the reconstruction has a PSNR of ${same} dB to the program's, less than 40`);
  }
  // Negative control: different noise gives a different picture.
  const another = psnr(await reconstruct(seed + 1));
  console.log(`with different noise: PSNR ${another.toFixed(1)} dB`);
  if (!(another < 30)) {
    fail(`different noise gives a PSNR of ${another} dB to the program's: it has no effect`);
  }
}

try {
  if (file) {
    const url = pathToFileURL(resolve(file)).href;
    const page = await open(url, null);
    console.log(`from disk: the first picture was drawn after ${await drawn(page)} s`);
    if (options.check && failures.length === 0) await check(page);
    await photograph(page, basename(file, '.html'), ['light', 'dark']);
    await checkStopAndTabs(page);
    if (options.bench) {
      const report = await page.evaluate('soda.bench(5)');
      writeFileSync(options.bench, `${JSON.stringify(report, null, 2)}\n`);
      console.log(`benchmark: ${report.rows.length} rows, ${report.skipped.length} skipped`);
      if (!(report.rows.length >= 2 && report.rows.every(({ median_ms: ms }) => ms > 0))) {
        fail('the benchmark has fewer than two rows, or one without a time');
      }
    }
    await page.close();
    await checkWithoutGpu(url);

    const html = readFileSync(file);
    await checkCutShort(html);
    const server = createServer((request, answer) => {
      answer.writeHead(request.url === '/' ? 200 : 404, { 'content-type': 'text/html' });
      answer.end(request.url === '/' ? html : '');
    }).listen(0, '127.0.0.1');
    await new Promise((done) => { server.once('listening', done); });
    const root = `http://127.0.0.1:${server.address().port}/`;
    const served = await open(root, null, compileSlowly);
    // An example that is chosen while the page prepares the GPU waits for it, and stays chosen.
    await served.waitForFunction('soda.state.phase !== "opening"', { timeout: PATIENCE });
    const { phase } = await served.evaluate('soda.state');
    await served.evaluate('document.querySelectorAll("#examples .thumb")[3].click()');
    await served.evaluate('soda.ready');
    const pressed = 'document.querySelectorAll("#examples .thumb")[3].getAttribute("aria-pressed")';
    await served.waitForFunction(`${pressed} === "true"`, { timeout: PATIENCE });
    const { message } = await served.evaluate('soda.state');
    if (phase !== 'compiling' || message) {
      fail(`an example chosen while the page was ${phase}: the page says: ${message}`);
    }
    console.log('from a server: the networks are ready, and draw an example chosen before');
    await served.close();
    server.close();
  }
  if (options.report) {
    const page = await open(pathToFileURL(resolve(options.report)).href, null);
    const { n, broken } = await page.evaluate(() => {
      const images = [...document.images];
      return { n: images.length, broken: images.filter((i) => !(i.complete && i.naturalWidth)).length };
    });
    if (!(n >= 10 && broken === 0)) fail(`the report has ${n} pictures, ${broken} of them broken`);
    await photograph(page, basename(options.report, '.html'), ['light']);
  }
} catch (error) {
  fail(error.message);
} finally {
  await browser.close();
}
if (failures.length > 0) {
  console.error(`${failures.length} ${failures.length === 1 ? 'check' : 'checks'} failed`);
  process.exit(1);
}
console.log('all checks passed');
