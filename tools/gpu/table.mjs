// Tabulates what GPU compilers make of the shaders that the recipes launch:
// node table.mjs DIR [options]
//
// `soda shaders DIR` writes the folder; the rows are those of its shaders that a recipe launches on
// GPUs.
//   --on LIST          navi21 (RADV), dg2 (ANV), sm_86 (ptxas), ga102 (NAK), separated by commas;
//                      default navi21
//   --mesa             for navi21, use the Mesa that setup.sh installed instead of this machine's
//   --json F, --markdown F   write the table
//   --bytes F          add the bytes that shaders move, from tests/kernels/traffic.rs
//   --baseline F       fail if a share of multiply-adds is over 2 points below F's, or on spills
//   --write-baseline F write a new baseline
// Fails if the multiply-adds of a loop differ from the catalogue's by more than 2 %.

import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { GPUS } from './gpus.mjs';

/** How many points a share may be below the baseline. */
const TOLERATED = 2;
/** Loops with fewer multiply-adds don't belong to a matrix product. */
const FEWEST = 16;

/** Checks whether `n` is an integer multiple or an integer fraction of `of`, within 2 %. */
export function agrees(n, of) {
  const times = Math.max(n / of, of / n);
  return Math.abs(times - Math.round(times)) <= 0.02 * times;
}

/**
 * Returns the share of multiply-adds among the vector-unit instructions, in per cent, in the loops
 * that have them: for one product, the loop that runs `trips` times for the counted number, with
 * what the loop around it adds; for several kinds of products, all their loops together. Also
 * returns which of those loops disagree with the count.
 */
export function shares({ loops }, counted) {
  const multiplyAdds = (loop) => loop.counts.multiply_adds ?? 0;
  if (!counted.length) return {};
  // The loop around several products may have multiply-adds of its own, for the weights between the
  // products; a whole product may be unrolled among these.
  const several = counted.length > 1;
  const fewest = (loop) => (several && loop.inside ? Math.max(...counted) : FEWEST);
  const products = loops.filter((loop) => multiplyAdds(loop) >= fewest(loop));
  const wrong = products.filter((loop) => !(several && loop.inside)).filter((loop) => !counted.some((n) => agrees(multiplyAdds(loop), n)))
    .map((loop) => `a loop of ${multiplyAdds(loop)} multiply-adds, ${counted.join(' or ')} counted`);
  if (!products.length) return { wrong: [`no loop of multiply-adds, ${counted.join(' and ')} counted`] };
  if (several) {
    const sum = (of) => products.reduce((all, loop) => all + of(loop), 0);
    return { share: 100 * sum(multiplyAdds) / sum((loop) => loop.alu), integer_multiplies: sum(integers), wrong };
  }
  const inner = products.reduce((a, b) => (multiplyAdds(b) > multiplyAdds(a) ? b : a));
  const trips = counted[0] / multiplyAdds(inner);
  const outer = trips >= 1.5 && inner.around !== null ? loops[inner.around] : { alu: 0, counts: {} };
  const times = Math.max(trips, 1);
  return {
    share: 100 * times * multiplyAdds(inner) / (times * inner.alu + outer.alu),
    integer_multiplies: times * integers(inner) + integers(outer),
    wrong,
  };
}

const integers = (loop) => loop.counts.integer_multiplies ?? 0;

/** Returns a shader's template values, without those that every row has. */
function short(variant) {
  return variant.replace(/^\w+(?=[ ({])/, '').replace(/,? ?types: Types \{[^}]*\}/, '').replace(/,? ?Types \{[^}]*\}/, '')
    .replace(/(Tile|Columns|Fours) /g, '').replace(/[{}()]/g, '').replace(/(columns|tile|fours): /g, '').replace(/\s+/g, ' ').trim();
}

/** Returns the table of `dir` for the GPUs `on`: its rows, and the failures. */
function table(dir, on, options) {
  const { shaders } = JSON.parse(readFileSync(join(dir, 'manifest.json'), 'utf8'));
  const wanted = shaders.filter((s) => s.recipes.length);
  if (!wanted.length) throw new Error('manifest.json: no recipe launches any of its shaders');
  const made = Object.fromEntries(on.map((gpu) => [gpu, GPUS[gpu](dir, wanted, options)]));
  const failures = [];
  const named = {};
  const rows = wanted.map((s) => {
    // Shaders that differ only in their number of taps have the same values.
    const values = short(s.variant) || 'only';
    const times = (named[`${s.kernel}, ${values}`] = (named[`${s.kernel}, ${values}`] ?? 0) + 1);
    const row = { kernel: s.kernel, variant: times > 1 ? `${values} (${times})` : values, file: s.file, recipes: s.recipes, workgroup: s.workgroup_size[0],
      multiply_adds: s.multiply_adds, gpus: {} };
    for (const gpu of on) {
      const { code, ...rest } = made[gpu].shaders[s.file];
      const { wrong = [], share, integer_multiplies } = shares(code, s.multiply_adds);
      failures.push(...wrong.map((what) => `${gpu}: ${s.kernel}, ${row.variant}: ${what}`));
      row.gpus[gpu] = { ...rest, ...(share && { share: Math.round(10 * share) / 10, integer_multiplies: Math.round(integer_multiplies) }),
        loads: code.loads, stores: code.stores };
    }
    return row;
  });
  const compilersOf = Object.fromEntries(on.map((gpu) => [gpu, made[gpu].compiler]));
  const rewritings = Object.fromEntries(on.filter((gpu) => made[gpu].rewritings).map((gpu) => [gpu, made[gpu].rewritings]));
  return { failures, table: { compilers: compilersOf, rewritings, rows } };
}

const NOTES = {
  navi21: 'registers: VGPRs; waves: subgroups per SIMD, as the driver counts them',
  dg2: 'registers: maximum live, of 128; lanes: per thread',
  sm_86: 'warps: of 48 per multiprocessor; spills in bytes',
  ga102: 'warps: of 48 per multiprocessor',
};

function markdown({ compilers: names, rewritings, rows, bytes }) {
  const on = Object.keys(names);
  const lines = ['# Shaders, by GPU compiler', '',
    'Written by `scripts/gpu_table.sh`. Share: multiply-adds among the vector-unit instructions, in the',
    'loop that has them and the one around it, in per cent. mul: integer multiplies in the same loops.',
    '16 B: loads and stores of 16 bytes, out of all those of global memory.', ''];
  for (const gpu of on) lines.push(`- **${gpu}** ${names[gpu]}; ${NOTES[gpu]}`);
  for (const [gpu, rules] of Object.entries(rewritings)) {
    lines.push('', `The source is rewritten on its way to ${gpu}:`, '');
    for (const { name, why, times } of rules) lines.push(`- ${name}, ${times} times: ${why}`);
  }
  for (const kernel of [...new Set(rows.map((r) => r.kernel))]) {
    const own = rows.filter((r) => r.kernel === kernel);
    const head = on.flatMap((gpu) => [`${gpu}: registers`, 'spills', Object.keys(own[0].gpus[gpu]).find((k) => ['waves', 'lanes', 'warps'].includes(k)),
      ...(own.some((r) => r.multiply_adds.length) ? ['share', 'mul'] : []), '16 B']);
    lines.push('', `## ${kernel}`, '', `| | recipes | workgroup memory | ${head.join(' | ')} |`, `| --- |${' --- |'.repeat(head.length + 2)}`);
    for (const row of own) {
      const cells = on.flatMap((gpu) => {
        const g = row.gpus[gpu];
        const all = (of) => Object.values(of).reduce((a, b) => a + b, 0);
        const wide = (g.loads[16] ?? 0) + (g.stores[16] ?? 0);
        return [g.registers, g.spills, g.waves ?? g.lanes ?? g.warps,
          ...(own.some((r) => r.multiply_adds.length) ? [g.share?.toFixed(1) ?? '', g.integer_multiplies ?? ''] : []), `${wide}/${all(g.loads) + all(g.stores)}`];
      });
      const memory = Object.values(row.gpus)[0].workgroup_memory;
      lines.push(`| ${row.variant} | ${row.recipes.join(', ')} | ${memory} | ${cells.join(' | ')} |`);
    }
  }
  if (bytes) {
    lines.push('', '## Bytes', '',
      'The bytes of all loads and stores of a launch, counted while it ran (tests/kernels/traffic.rs),',
      'and their ratio to the minimum. What several invocations read from one address counts for each',
      'of them; caches and whole waves merge such accesses.', '',
      '| kernel | | case | MiB | of the minimum |', '| --- | --- | --- | --- | --- |');
    for (const { kernel, variant, case: of, bytes: moved, fewest } of bytes) {
      lines.push(`| ${kernel} | ${short(variant)} | ${of} | ${(moved / 2 ** 20).toFixed(3)} | ${(moved / fewest).toFixed(3)} |`);
    }
  }
  return `${lines.join('\n')}\n`;
}

/** Returns the contents of a baseline: shares by shader. */
function baseline({ compilers: names, rows }) {
  const gpus = Object.fromEntries(Object.keys(names).map((gpu) => {
    const shared = rows.filter((r) => r.gpus[gpu].share).map((r) => [`${r.kernel}, ${r.variant}`, r.gpus[gpu].share]);
    return [gpu, { compiler: names[gpu], shares: Object.fromEntries(shared) }];
  }));
  return { gpus };
}

/** Returns a line for each shader that spills or is worse than `old`. */
export function worse(old, now) {
  const found = [];
  for (const [gpu, compiler] of Object.entries(now.compilers)) {
    for (const row of now.rows) {
      const { spills } = row.gpus[gpu];
      // What the compiler no longer reports isn't 0 either.
      if (!(spills === 0)) found.push(`${gpu}: ${row.kernel}, ${row.variant}: ${spills} spills`);
    }
    const kept = old.gpus[gpu];
    if (!kept) {
      found.push(`${gpu}: not in the baseline`);
    } else if (kept.compiler !== compiler) {
      console.log(`${gpu}: the baseline is from ${kept.compiler}, this is ${compiler}: only spills are checked`);
    } else {
      const shared = now.rows.filter((r) => r.gpus[gpu].share);
      const counted = new Set(shared.map((r) => `${r.kernel}, ${r.variant}`));
      for (const name of Object.keys(kept.shares).filter((n) => !counted.has(n))) {
        found.push(`${gpu}: ${name}: no multiply-adds, ${kept.shares[name]} % in the baseline`);
      }
      for (const row of shared) {
        const name = `${row.kernel}, ${row.variant}`;
        const [before, after] = [kept.shares[name], row.gpus[gpu].share];
        if (before === undefined) found.push(`${gpu}: ${name}: not in the baseline`);
        else if (after < before - TOLERATED) found.push(`${gpu}: ${name}: ${after} % are multiply-adds, ${before} % in the baseline`);
      }
    }
  }
  return found;
}

function main(args) {
  const options = { on: ['navi21'] };
  const dirs = [];
  while (args.length) {
    const arg = args.shift();
    if (arg === '--mesa') options.mesa = true;
    else if (arg === '--on') options.on = args.shift().split(',');
    else if (['--json', '--markdown', '--bytes', '--baseline', '--write-baseline'].includes(arg)) options[arg.slice(2)] = args.shift();
    else dirs.push(arg);
  }
  const unknown = options.on.find((gpu) => !GPUS[gpu]);
  if (dirs.length !== 1 || unknown) throw new Error(unknown ? `--on ${unknown}: one of ${Object.keys(GPUS)}` : 'usage: node table.mjs DIR [options]');
  const { failures, table: now } = table(resolve(dirs[0]), options.on, options);
  if (options.bytes) now.bytes = JSON.parse(readFileSync(options.bytes, 'utf8'));
  if (options.json) writeFileSync(options.json, `${JSON.stringify(now, null, 1)}\n`);
  if (options.markdown) writeFileSync(options.markdown, markdown(now));
  if (options['write-baseline']) writeFileSync(options['write-baseline'], `${JSON.stringify(baseline(now), null, 1)}\n`);
  if (options.baseline) failures.push(...worse(JSON.parse(readFileSync(options.baseline, 'utf8')), now));
  for (const failure of failures) console.log(`FAILED ${failure}`);
  console.log(`${now.rows.length} shaders on ${options.on.join(', ')}; ${failures.length} failures`);
  return failures.length ? 1 : 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.exitCode = main(process.argv.slice(2));
  } catch (error) {
    console.error(`error: ${error.message}`);
    process.exitCode = 1;
  }
}
