import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { pythonPackage, type PythonPackage } from '../support/processes/python-package.ts'

const FOLDER = join(import.meta.dirname, '..', '..', 'gpu-node', 'gpu', 'src', 'device', 'cuda')
const ARCHITECTURES = ['sm_75', 'sm_80', 'sm_89', 'sm_90', 'sm_100']
const COMPILED = ARCHITECTURES.map((name) => ({ name, hasCode: true }))
const FORMS = ['SPARSE', 'BF16', 'INT8', 'INT4'].map((form) => `-DFORM_${form}=1`)

/** Constants of models with small and large heads, and of one with numbers that no vector divides. */
const MODELS = {
  'SmolLM2-135M':
    'HIDDEN=576u HEADS=9u KV_HEADS=3u HEAD_DIM=64u HALF=32u INTERMEDIATE=1536u VOCAB=49152u COUNT=256u PART=192u EPS=1e-5f SCALE=0.125f',
  'Llama-3.1-8B':
    'HIDDEN=4096u HEADS=32u KV_HEADS=8u HEAD_DIM=128u HALF=64u INTERMEDIATE=14336u VOCAB=128256u COUNT=256u PART=501u EPS=1e-5f SCALE=0.088388346f',
  'an odd model':
    'HIDDEN=577u HEADS=2u KV_HEADS=1u HEAD_DIM=130u HALF=65u INTERMEDIATE=73u VOCAB=99u COUNT=99u PART=1u EPS=1e-6f SCALE=0.0877058f',
}

test.for(Object.entries(MODELS))(
  'the CUDA kernels compile for every supported architecture with the constants of %s',
  { timeout: 900_000 },
  async ([, constants], { skip }) => {
    const nvrtc = await nvrtcPackage()
    if (!nvrtc) return skip('NVRTC cannot be installed here')
    expect(await compile(nvrtc, macrosOf(constants))).toEqual(COMPILED)
  },
)

test('the CUDA products compile for every supported architecture', { timeout: 900_000 }, async ({ skip }) => {
  const nvrtc = await nvrtcPackage()
  if (!nvrtc) return skip('NVRTC cannot be installed here')
  expect(await compile(nvrtc, [...macrosOf(MODELS['an odd model']), ...FORMS])).toEqual(COMPILED)
})

function macrosOf(constants: string): string[] {
  return constants.split(' ').map((constant) => `-D${constant}`)
}

/** Compiles the kernels of a step; says for each architecture whether there is code. */
async function compile(nvrtc: PythonPackage, macros: string[]): Promise<typeof COMPILED> {
  const script = join(import.meta.dirname, 'compile_cuda.py')
  const found = await nvrtc.run([script, ...ARCHITECTURES, ...macros, ...(await sources('STEP_SOURCES'))])
  expect(found).toMatchObject({ exitCode: 0, stderr: '' })
  const lines = found.stdout.trim().split('\n')
  return lines
    .map((line) => line.split(' '))
    .map(([name = '', bytes]) => ({ name, hasCode: Number(bytes) > 10_000 }))
}

/** The files that the host compiles as one source, in order. */
async function sources(list: string): Promise<string[]> {
  const host = await readFile(join(FOLDER, 'kernels.rs'), 'utf8')
  const files = (text: string) =>
    [...text.matchAll(/include_str!\("([^"]+)"\)/g)].map(([, file]) => file ?? '')
  const names = ['COMMON', list].flatMap((name) =>
    files(new RegExp(`const ${name}:[^;]*`).exec(host)?.[0] ?? ''),
  )
  expect(names.length).toBeGreaterThan(1)
  return names.map((name) => join(FOLDER, name))
}

/** NVIDIA's compiler; undefined where pip cannot install it. The test knows its library on Linux alone. */
async function nvrtcPackage(): Promise<PythonPackage | undefined> {
  if (process.platform !== 'linux') return undefined
  try {
    return await pythonPackage('nvidia-cuda-nvrtc', '13.5.37')
  } catch {
    return undefined
  }
}
