import { expect, test } from 'vitest'
import {
  chooseBackend,
  type ChooseBackendOptions,
} from '../../../../gpu-node/src/serving/backends/choose-backend.ts'
import { loadNative } from '../../../../gpu-node/src/platform/native-addon.ts'
import { addon } from '../../../support/engine/backends.ts'
import { skipWithoutAddon } from '../../../support/harness/skip-without-addon.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

function choose(overrides: Partial<ChooseBackendOptions>) {
  const said: unknown[] = []
  const backend = chooseBackend({
    backend: 'auto',
    kernel: null,
    precision: 'bf16',
    headPrecision: 'int8',
    provider: 'cpu',
    threads: 1,
    kvTokens: null,
    workDir: temporaryDir(),
    log: { info: (message, fields) => void said.push([message, fields]) },
    ...overrides,
  })
  return { backend, said }
}

const notBuilt = () => loadNative(['/nowhere/copal.node'])

test('onnx is onnx, and one line says so', () => {
  const { backend, said } = choose({ backend: 'onnx' })
  expect(backend.name).toBe('onnx-cpu')
  expect(said).toEqual([['backend chosen', { backend: 'onnx-cpu', why: 'COPAL_BACKEND is onnx' }]])
})

test('auto is onnx where the addon does not load, and one line says why', () => {
  const { backend, said } = choose({ load: notBuilt })
  expect(backend.name).toBe('onnx-cpu')
  expect(said).toEqual([
    [
      'backend chosen',
      { backend: 'onnx-cpu', why: expect.stringContaining('/nowhere/copal.node: it is not built') },
    ],
  ])
})

test('auto is onnx for another provider than the processor', () => {
  expect(choose({ provider: 'webgpu' }).backend.name).toBe('onnx-webgpu')
})

test('sparse without the addon is an error that says how to build it', () => {
  expect(() => choose({ backend: 'sparse', load: notBuilt })).toThrow(
    /COPAL_BACKEND is 'sparse'.*it is not built.*build-native\.mjs/,
  )
})

if (addon) testSparse(addon.kernels())
else skipWithoutAddon('the choice of the sparse engine')

function testSparse(kernels: readonly string[]): void {
  test('auto is sparse where the addon loads', () => {
    const { backend, said } = choose({ precision: 'int8' })
    expect(backend.name).toBe(`sparse-int8-${kernels[0]}`)
    expect(said).toEqual([['backend chosen', { backend: backend.name, why: 'the addon loads' }]])
  })

  test('a head in another precision than the usual one is told', () => {
    const { backend } = choose({ precision: 'int4', headPrecision: 'int4' })
    expect(backend.name).toBe(`sparse-int4-head-int4-${kernels[0]}`)
  })

  test('a kernel of another machine is an error that lists those of this one', () => {
    const other = process.arch === 'arm64' ? 'avx2' : 'neon'
    expect(() => choose({ kernel: other })).toThrow(
      `This machine cannot run the kernel '${other}'; it runs ${kernels.join(', ')}.`,
    )
  })
}
