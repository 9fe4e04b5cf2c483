import { join } from 'node:path'
import { expect, test } from 'vitest'
import { pythonPackage, type PythonPackage } from '../support/processes/python-package.ts'

const SOURCE = join(import.meta.dirname, '..', '..', 'gpu-node', 'gpu', 'src', 'cuda', 'product.cu')
const ARCHITECTURES = ['sm_75', 'sm_89', 'sm_90']

test('the CUDA source compiles for every supported architecture', { timeout: 600_000 }, async ({ skip }) => {
  const nvrtc = await nvrtcPackage()
  if (!nvrtc) return skip('NVRTC cannot be installed here')
  const compile = join(import.meta.dirname, 'compile_cuda.py')
  const { stdout, stderr, exitCode } = await nvrtc.run([compile, SOURCE, ...ARCHITECTURES])
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' })
  const sizes = stdout
    .trim()
    .split('\n')
    .map((line) => line.split(' '))
  expect(sizes.map(([architecture]) => architecture)).toEqual(ARCHITECTURES)
  expect(sizes.filter(([, bytes]) => !(Number(bytes) > 1000))).toEqual([])
})

/** NVIDIA's compiler; undefined where pip cannot install it. The test knows its library on Linux alone. */
async function nvrtcPackage(): Promise<PythonPackage | undefined> {
  if (process.platform !== 'linux') return undefined
  try {
    return await pythonPackage('nvidia-cuda-nvrtc', '13.5.37')
  } catch {
    return undefined
  }
}
