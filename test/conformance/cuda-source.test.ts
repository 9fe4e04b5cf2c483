import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { pythonPackage, type PythonPackage } from '../support/processes/python-package.ts'

const FOLDER = join(import.meta.dirname, '..', '..', 'gpu-node', 'gpu', 'src', 'device', 'cuda')
const ARCHITECTURES = ['sm_75', 'sm_80', 'sm_89', 'sm_90', 'sm_100']
/** Products take most of the time: without matrix units for bf16, and with them. */
const ARCHITECTURES_OF_PRODUCTS = ['sm_75', 'sm_89', 'sm_90']
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
    await expectCode(nvrtc, macrosOf(constants))
  },
)

test('the CUDA products compile without and with matrix units', { timeout: 900_000 }, async ({ skip }) => {
  const nvrtc = await nvrtcPackage()
  if (!nvrtc) return skip('NVRTC cannot be installed here')
  await expectCode(nvrtc, [...macrosOf(MODELS['an odd model']), ...FORMS], 'STEP', ARCHITECTURES_OF_PRODUCTS)
})

test.for<SourceList>(['CALIBRATION', 'EXCHANGE'])(
  'the CUDA kernels of %s compile for every supported architecture',
  { timeout: 900_000 },
  async (list, { skip }) => {
    const nvrtc = await nvrtcPackage()
    if (!nvrtc) return skip('NVRTC cannot be installed here')
    await expectCode(nvrtc, macrosOf(MODELS['an odd model']), list)
  },
)

function macrosOf(constants: string): string[] {
  return constants.split(' ').map((constant) => `-D${constant}`)
}

/** Compiles a list of sources, and expects code for each architecture. */
async function expectCode(
  nvrtc: PythonPackage,
  macros: string[],
  list: SourceList = 'STEP',
  architectures = ARCHITECTURES,
): Promise<void> {
  const script = join(import.meta.dirname, 'compile_cuda.py')
  const found = await nvrtc.run([script, ...architectures, ...macros, ...(await sources(list))])
  expect(found).toMatchObject({ exitCode: 0, stderr: '' })
  const lines = found.stdout.trim().split('\n')
  const compiled = lines.map((line) => line.split(' '))
  expect(compiled.map(([name]) => name)).toEqual(architectures)
  expect(compiled.filter(([, bytes]) => !(Number(bytes) > 10_000))).toEqual([])
}

type SourceList = 'STEP' | 'CALIBRATION' | 'EXCHANGE'

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
async function nvrtcPackage(): Promise<PythonPackage | undefined> {
  if (process.platform !== 'linux') return undefined
  try {
    return await pythonPackage('nvidia-cuda-nvrtc', '13.5.37')
  } catch {
    return undefined
  }
}
