import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { pythonPackage, type PythonPackage } from '../support/processes/python-package.ts'

const FOLDER = join(import.meta.dirname, '..', '..', 'gpu-node', 'gpu', 'src', 'device', 'cuda')

/**
 * The oldest compiler that the host takes, and a new one, each with its oldest and newest architectures. Products take most of the
 * time: the new one compiles all forms for one, and the oldest one form for cards without matrix units for bf16 (sm_75).
 */
const COMPILERS = [
  { package: 'nvidia-cuda-nvrtc-cu12', version: '12.0.140', architectures: ['sm_75', 'sm_89'] },
  { package: 'nvidia-cuda-nvrtc', version: '13.5.37', architectures: ['sm_75', 'sm_90', 'sm_100'] },
]
type Compiler = (typeof COMPILERS)[number]

/** Shared memory of a block that every card has without being asked. */
const MAX_SHARED_BYTES = 48 * 1024

const FORMS = ['SPARSE', 'SPARSE_INT4', 'BF16', 'INT8', 'INT4'].map((form) => `-DFORM_${form}=1`)

/** Constants of models with small and large heads, and of one with numbers that no vector divides. */
const MODELS = {
  'SmolLM2-135M':
    'HIDDEN=576u HEADS=9u KV_HEADS=3u HEAD_DIM=64u HALF=32u SPAN=512u INTERMEDIATE=1536u VOCAB=49152u COUNT=256u PART=192u EPS=1e-5f SCALE=0.125f',
  'Llama-3.1-8B':
    'HIDDEN=4096u HEADS=32u KV_HEADS=8u HEAD_DIM=128u HALF=64u SPAN=512u INTERMEDIATE=14336u VOCAB=128256u COUNT=256u PART=501u EPS=1e-5f SCALE=0.088388346f',
  'an odd model':
    'HIDDEN=577u HEADS=2u KV_HEADS=1u HEAD_DIM=130u HALF=65u SPAN=512u INTERMEDIATE=73u VOCAB=99u COUNT=99u PART=1u EPS=1e-6f SCALE=0.0877058f',
}

type SourceList = 'STEP' | 'CALIBRATION' | 'EXCHANGE'

const ODD = macrosOf(MODELS['an odd model'])
/** By default each compiler compiles it, for its own architectures. */
interface Program {
  name: string
  list: SourceList
  macros: string[]
  compilers?: readonly Compiler[]
  architectures?: readonly string[]
}
const PROGRAMS: readonly Program[] = [
  ...Object.entries(MODELS).map(([name, constants]) => ({
    name: `The kernels of a step of ${name} compile`,
    list: 'STEP' as const,
    macros: macrosOf(constants),
    // Both compile those of the odd model, for all architectures.
    ...(name === 'an odd model' ? {} : { compilers: COMPILERS.slice(-1), architectures: ['sm_90'] }),
  })),
  {
    name: 'Products compile',
    list: 'STEP',
    macros: [...ODD, ...FORMS],
    compilers: COMPILERS.slice(-1),
    architectures: ['sm_90'],
  },
  {
    name: 'Products of pruned weights compile without matrix units',
    list: 'STEP',
    macros: [...ODD, '-DFORM_SPARSE_INT4=1'],
    compilers: COMPILERS.slice(0, 1),
    architectures: ['sm_75'],
  },
  { name: 'The kernels of a calibration compile', list: 'CALIBRATION', macros: ODD },
  { name: 'The kernels of a refinement compile', list: 'EXCHANGE', macros: [] },
]

const CASES = PROGRAMS.flatMap((program) =>
  (program.compilers ?? COMPILERS).map((compiler) => ({ ...program, compiler })),
)

test.for(CASES)(
  '$name by NVRTC $compiler.version',
  { timeout: 900_000 },
  async ({ list, macros, compiler, architectures = compiler.architectures }, { skip }) => {
    const nvrtc = await nvrtcPackage(compiler)
    if (!nvrtc) return skip('NVRTC cannot be installed here')
    const script = join(import.meta.dirname, 'compile_cuda.py')
    const found = await nvrtc.run([script, ...architectures, ...macros, ...(await sources(list))])
    expect(found).toMatchObject({ exitCode: 0, stderr: '' })
    const lines = found.stdout
      .trim()
      .split('\n')
      .map((line) => line.split(' '))
    expect(lines.map(([architecture]) => architecture)).toEqual(architectures)
    const isWrong = (numbers: number[]) => {
      const [bytes = 0, frame, shared = 0] = numbers
      // Numbers that fit no register would lie in a frame in the memory of the device.
      return bytes <= 1000 || frame !== 0 || shared > MAX_SHARED_BYTES
    }
    expect(lines.filter(([, ...numbers]) => isWrong(numbers.map(Number)))).toEqual([])
  },
)

function macrosOf(constants: string): string[] {
  return constants.split(' ').map((constant) => `-D${constant}`)
}

/** The files that the host compiles as one source, in order. */
async function sources(list: SourceList): Promise<string[]> {
  const host = await readFile(join(FOLDER, 'kernels.rs'), 'utf8')
  const named = (name: string): string[] => {
    const [, value = ''] = new RegExp(`const ${name}: [^=]*=([^;]*);`).exec(host) ?? []
    const parts = value.matchAll(/include_str!\("([^"]+)"\)|\b([A-Z]+)\b/g)
    return [...parts].flatMap(([, file, other]) => (file ? [file] : named(other ?? '')))
  }
  const names = ['COMMON', list].flatMap(named)
  expect(names.length).toBeGreaterThan(2)
  return names.map((name) => join(FOLDER, name))
}

/** NVIDIA's compiler; undefined where pip cannot install it. The test knows its library on Linux alone. */
async function nvrtcPackage(compiler: Compiler): Promise<PythonPackage | undefined> {
  if (process.platform !== 'linux') return undefined
  try {
    return await pythonPackage(compiler.package, compiler.version)
  } catch {
    return undefined
  }
}
