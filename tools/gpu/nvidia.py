#!/usr/bin/env python3
"""Compiles shaders with CUDA's code generator: nvidia.py [--arch sm_86] --out DIR FILE.hlsl..

HLSL (naga's, `check-shaders --out`) -> slangc -> CUDA C++ -> NVRTC -> PTX -> ptxas -> nvdisasm.
Writes DIR/NAME.sass for each shader, and prints as JSON its registers, spilled bytes, shared
memory, warps per multiprocessor, and the number of each kind of rewrite on the way. ptxas isn't
part of NVIDIA's Vulkan driver, whose code generator is related to it. setup.sh installs what this
needs."""

import argparse, concurrent.futures, ctypes, json, os, pathlib, re, subprocess, sys, sysconfig

SITE = pathlib.Path(sysconfig.get_paths()['purelib'])
SLANGC = SITE / 'slangtorch/bin/slangc'
# Warps and bytes of shared memory per multiprocessor, by architecture; all have 65,536 registers.
PROCESSORS = {
    'sm_75': (32, 64 << 10),
    'sm_80': (64, 164 << 10),
    'sm_86': (48, 100 << 10),
    'sm_89': (48, 100 << 10),
    'sm_90': (64, 228 << 10),
}

# The rewrites: name, pattern, replacement, reason.
IN_HLSL = [
    (
        'divisors',
        r'\(rhs == 0u \? 1u : rhs\)',
        'rhs',
        'divisors are not checked, as in the SPIR-V that unchecked launches get',
    ),
    (
        'loads of 16 bytes',
        r'\.Load4\(',
        '.LoadAligned<uint4>(',
        'Load4 is aligned: arrays of vec4 are',
    ),
    (
        'stores of 16 bytes',
        r'\.Store4\(',
        '.StoreAligned<uint4>(',
        'Store4 is aligned: arrays of vec4 are',
    ),
]
IN_CUDA = [
    (
        'typed loads',
        r'memcpy\(&data, \(\(const char\*\)this->data\) \+ index, sizeof\(T\)\);',
        'data = *(const T*)((const char*)this->data + index);',
        'a load of the type instead of a copy of bytes',
    ),
    (
        'typed stores',
        r'memcpy\(\(char\*\)data \+ index, &value, sizeof\(T\)\);',
        '*(T*)((char*)data + index) = value;',
        'a store of the type instead of a copy of bytes',
    ),
    (
        'launch bounds',
        r'__global__ void',
        '__global__ void __launch_bounds__({threads})',
        'the size of the workgroup, which Vulkan\'s compilers know; no number of workgroups',
    ),
]


def tool(name):
    return next(iter(SITE.glob(f'nvidia/*/bin/{name}')))


def run(*command, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **more)
    if done.returncode:
        raise RuntimeError(
            f'{pathlib.Path(command[0]).name}: {(done.stderr or done.stdout).strip()[:600]}'
        )
    return done


def ptx(source, arch):
    nvrtc = ctypes.CDLL(str(next(iter(SITE.glob('nvidia/*/lib/libnvrtc.so.*')))))
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    if nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b'shader.cu', 0, None, None
    ):
        raise RuntimeError('NVRTC takes no program')
    flags = [
        f'--gpu-architecture=compute_{arch[3:]}',
        '--std=c++17',
        '-default-device',
        '--extra-device-vectorization',
        '-ftz=true',
        '-DSLANG_CUDA_RTC=1',
        '-w',
        *(f'-I{path}' for path in SITE.glob('nvidia/*/include')),
    ]
    failed = nvrtc.nvrtcCompileProgram(
        program, len(flags), (ctypes.c_char_p * len(flags))(*(f.encode() for f in flags))
    )
    what = 'ProgramLog' if failed else 'PTX'
    getattr(nvrtc, f'nvrtcGet{what}Size')(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f'nvrtcGet{what}')(program, text)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    if failed:
        raise RuntimeError(f'NVRTC: {text.value.decode()[:600]}')
    return text.value.decode()


def rewrite(text, rules, counts, **values):
    for name, pattern, replacement, _ in rules:
        replacement = replacement.format(**values) if values else replacement
        text, counts[name] = re.subn(pattern, lambda _: replacement, text)
    return text


def compile(path, arch, out):
    stem, counts = out / path.stem, {}
    text = rewrite(path.read_text(), IN_HLSL, counts)
    threads = 1
    for n in re.findall(r'numthreads\((\d+), *(\d+), *(\d+)\)', text)[0]:
        threads *= int(n)
    hlsl, cuda, cubin = (stem.with_suffix(s) for s in ('.hlsl', '.cu', '.cubin'))
    hlsl.write_text(text)
    run(
        SLANGC,
        hlsl,
        '-lang',
        'hlsl',
        '-entry',
        'main',
        '-stage',
        'compute',
        '-target',
        'cuda',
        '-o',
        cuda,
        env=dict(os.environ, LD_LIBRARY_PATH=str(SLANGC.parent)),
    )
    stem.with_suffix('.ptx').write_text(
        ptx(rewrite(cuda.read_text(), IN_CUDA, counts, threads=threads), arch)
    )
    said = run(tool('ptxas'), '-v', f'-arch={arch}', stem.with_suffix('.ptx'), '-o', cubin).stderr
    stem.with_suffix('.sass').write_text(run(tool('nvdisasm'), '-c', cubin).stdout)
    number = lambda pattern: sum(int(n) for n in re.findall(pattern, said))
    registers, shared = number(r'Used (\d+) registers'), number(r'(\d+) bytes smem')
    spilled = number(r'(\d+) bytes spill stores') + number(r'(\d+) bytes spill loads')
    most, memory = PROCESSORS[arch]
    warps = (threads + 31) // 32
    # Warps get registers in multiples of 8 for each of 32 lanes; a workgroup reserves 1 KiB of
    # shared memory.
    groups = min(
        65536 // ((registers + 7) // 8 * 8 * 32 * warps),
        most // warps,
        16,
        memory // (shared + 1024),
    )
    return dict(
        registers=registers,
        spilled_bytes=spilled,
        workgroup_memory=shared,
        warps=groups * warps,
        most_warps=most,
        rewritten=counts,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--arch', default='sm_86', choices=PROCESSORS)
    parser.add_argument('--out', required=True, type=pathlib.Path)
    parser.add_argument('files', nargs='+', type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    def one(path):
        try:
            return path.stem, compile(path, arguments.arch, arguments.out)
        except RuntimeError as error:
            return path.stem, dict(error=str(error))

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        shaders = dict(pool.map(one, arguments.files))
    release = run(tool('ptxas'), '--version').stdout.split('release ')[1].split('\n')[0]
    rules = {name: why for name, _, _, why in IN_HLSL + IN_CUDA}
    json.dump(
        dict(compiler=f'ptxas {release}', rewritings=rules, shaders=shaders), sys.stdout, indent=1
    )


main()
