// GPU compilers, by GPU, and what each makes of generated shaders. setup.sh installs all of them
// but this machine's own Mesa.

import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const compilers = join(here, 'compilers');
const tools = join(here, '..', 'shaders', 'target', 'release');

function run(program, args, env = {}) {
  const done = spawnSync(program, args, { encoding: 'utf8', env: { ...process.env, ...env }, maxBuffer: 1 << 30 });
  if (done.status !== 0) throw new Error(`${program}: ${(done.stderr || done.error?.message || '').trim().split('\n').pop()}`);
  return done.stdout;
}

/** Compiles the files of `shaders` with the Vulkan driver that `env` selects. */
function vulkan(dir, shaders, env) {
  return JSON.parse(run(join(tools, 'compile-shaders'), [dir, '--only', shaders.map((s) => s.file).join(',')], env));
}

const newerMesa = (driver) => ({
  LD_LIBRARY_PATH: join(compilers, 'mesa/usr/lib/x86_64-linux-gnu'),
  VK_ICD_FILENAMES: join(compilers, `mesa/usr/share/vulkan/icd.d/${driver}_icd.json`),
});

function ownRadv() {
  const folder = '/usr/share/vulkan/icd.d';
  const file = existsSync(folder) && readdirSync(folder).find((name) => name.startsWith('radeon_icd'));
  if (!file) throw new Error("no RADV in /usr/share/vulkan/icd.d: install Mesa's Vulkan drivers");
  return { VK_ICD_FILENAMES: join(folder, file) };
}

/** Compilers by GPU; each returns { compiler, rewritings, shaders: { file: row, no shares } }. */
export const GPUS = {
  navi21(dir, shaders, { mesa }) {
    const found = vulkan(dir, shaders, { ...(mesa ? newerMesa('radeon') : ownRadv()), RADV_FORCE_FAMILY: 'navi21' });
    return {
      compiler: `RADV: ${found.driver}`,
      shaders: eachOf(found, (s) => ({
        registers: s.VGPRs,
        spills: s['Spilled VGPRs'] + s['Spilled SGPRs'] + s['Scratch size'],
        waves: s['Subgroups per SIMD'],
      })),
    };
  },
  dg2(dir, shaders) {
    const env = { ...newerMesa('intel'), INTEL_STUB_GPU_PLATFORM: 'dg2', LD_PRELOAD: join(compilers, 'libintel_noop_drm_shim.so') };
    const found = vulkan(dir, shaders, env);
    return {
      compiler: `ANV: ${found.driver}`,
      shaders: eachOf(found, (s) => ({
        registers: s['Max live registers'],
        spills: s['Spill Count'] + s['Fill Count'],
        lanes: s['Max dispatch width'],
      })),
    };
  },
  ga102(dir, shaders) {
    // Runs in a chroot with a newer Debian.
    const root = join(compilers, 'sid');
    const work = mkdtempSync(join(root, 'w', 'shaders-'));
    try {
      cpSync(dir, join(work, 'dir'), { recursive: true });
      cpSync(join(tools, 'compile-shaders'), join(work, 'compile-shaders'));
      const inside = work.slice(root.length);
      const variables = ['NOUVEAU_CHIPSET=172', 'LD_PRELOAD=/w/libnouveau_noop_drm_shim.so', 'NVK_I_WANT_A_BROKEN_VULKAN_DRIVER=1',
        'VK_DRIVER_FILES=/usr/share/vulkan/icd.d/nouveau_icd.json', 'HOME=/w'];
      const found = JSON.parse(run('chroot', [root, '/usr/bin/env', ...variables, join(inside, 'compile-shaders'), join(inside, 'dir'),
        '--only', shaders.map((s) => s.file).join(',')]));
      return {
        compiler: `NAK: ${found.driver}`,
        shaders: eachOf(found, (s) => ({
          registers: s['Number of GPRs'],
          spills: s['Spills to memory'] + s['Fills from memory'],
          warps: s['Max warps/SM'],
        })),
      };
    } finally {
      rmSync(work, { recursive: true });
    }
  },
  sm_86(dir, shaders) {
    const out = mkdtempSync(join(tmpdir(), 'sass-'));
    try {
      run(join(tools, 'check-shaders'), [dir, '--out', join(out, 'hlsl')]);
      const names = shaders.map((s) => s.file.replace(/\.wgsl$/, ''));
      const found = JSON.parse(run(join(compilers, 'venv/bin/python'), [join(here, 'nvidia.py'), '--arch', 'sm_86', '--out', join(out, 'sass'),
        ...names.map((name) => join(out, 'hlsl', `${name}.hlsl`))]));
      const failed = Object.entries(found.shaders).filter(([, s]) => s.error);
      if (failed.length) throw new Error(failed.map(([name, s]) => `${name}: ${s.error}`).join('\n'));
      const sass = names.map((name) => join(out, 'sass', `${name}.sass`));
      const codes = JSON.parse(run(join(tools, 'compile-shaders'), ['--disassembly', ...sass]));
      const used = {};
      const rows = names.map((name, i) => {
        const { registers, spilled_bytes: spills, warps, workgroup_memory, rewritten } = found.shaders[name];
        for (const [rule, n] of Object.entries(rewritten)) used[rule] = (used[rule] ?? 0) + n;
        return [`${name}.wgsl`, { registers, spills, warps, workgroup_memory, code: codes[sass[i]] }];
      });
      const rewritings = Object.entries(found.rewritings).map(([name, why]) => ({ name, why, times: used[name] ?? 0 }));
      return { compiler: found.compiler, rewritings, shaders: Object.fromEntries(rows) };
    } finally {
      rmSync(out, { recursive: true });
    }
  },
};

function eachOf(found, pick) {
  const row = ([file, { workgroup_memory, statistics, code }]) => [file, { ...pick(statistics), workgroup_memory, code }];
  return Object.fromEntries(Object.entries(found.shaders).map(row));
}
