import { expect, test } from 'vitest'
import {
  chooseBackend,
  type ChooseBackendOptions,
} from '../../../../gpu-node/src/serving/backends/choose-backend.ts'
import { loadGpu } from '../../../../gpu-node/src/platform/gpu-addon.ts'
import { loadNative } from '../../../../gpu-node/src/platform/native-addon.ts'
import { addon } from '../../../support/engine/backends.ts'
import { skipWithoutAddon } from '../../../support/harness/skip-without-addon.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

function choose(overrides: Partial<ChooseBackendOptions>) {
  const said: unknown[] = []
  const backend = chooseBackend({
    backend: 'auto',
    kernel: null,
    gpu: null,
    precision: 'bf16',
    headPrecision: 'int8',
    threads: 1,
    kvTokens: null,
    workDir: temporaryDir(),
    log: {
      info: (message, fields) => void said.push([message, fields]),
      warn: (message, fields) => void said.push([message, fields]),
    },
    ...overrides,
  })
  return { backend, said }
}

const notBuilt = () => loadNative(['/nowhere/copal.node'])

test('onnx selects ONNX and logs it once', () => {
  const { backend, said } = choose({ backend: 'onnx' })
  expect(backend.name).toBe('onnx-cpu')
  expect(said).toEqual([['backend chosen', { backend: 'onnx-cpu', why: 'COPAL_BACKEND is onnx' }]])
})

test('auto selects ONNX when the addon does not load, and logs why', () => {
  const { backend, said } = choose({ load: notBuilt })
  expect(backend.name).toBe('onnx-cpu')
  expect(said).toEqual([
    [
      'backend chosen',
      { backend: 'onnx-cpu', why: expect.stringContaining('/nowhere/copal.node: it is not built') },
    ],
  ])
})

test('sparse without the addon is an error that tells how to build it', () => {
  expect(() => choose({ backend: 'sparse', load: notBuilt })).toThrow(
    /COPAL_BACKEND is 'sparse'.*it is not built.*build-native\.mjs/,
  )
})

test('gpu without its addon is an error that tells how to build it', () => {
  const loadGpuAddon = () => loadGpu('/nowhere/copal-gpu.node')
  expect(() => choose({ backend: 'gpu', loadGpu: loadGpuAddon })).toThrow(
    /COPAL_BACKEND is 'gpu'.*it is not built.*build-gpu\.mjs/,
  )
})

test('keys and values in int8 on another backend are an error that says why it serves', () => {
  const kvPrecision = 'int8'
  expect(() => choose({ backend: 'onnx', kvPrecision })).toThrow(
    /^COPAL_KV_PRECISION is 'int8', .*Leave it out, .*: COPAL_BACKEND is onnx$/,
  )
  expect(() => choose({ backend: 'gpu', kvPrecision })).toThrow(/Leave it out, .*: COPAL_BACKEND is gpu$/)
  expect(() => choose({ load: notBuilt, kvPrecision })).toThrow(/Leave it out, .*: .*it is not built/)
})

if (addon) testSparse(addon.kernels())
else skipWithoutAddon('the choice of the sparse engine')

function testSparse(kernels: readonly string[]): void {
  test('auto selects sparse when the addon loads', () => {
    const { backend, said } = choose({ precision: 'int8' })
    expect(backend.name).toBe(`sparse-int8-${kernels[0]}`)
    expect(said[0]).toEqual(['backend chosen', { backend: backend.name, why: 'the addon loads' }])
  })

  test('the name shows precisions of the head, and of keys and values, other than the default', () => {
    const { backend } = choose({ precision: 'int4', headPrecision: 'int4', kvPrecision: 'int8' })
    expect(backend.name).toBe(`sparse-int4-head-int4-kv-int8-${kernels[0]}`)
  })

  test('a kernel that this machine cannot run is an error that lists those it can run', () => {
    const other = process.arch === 'arm64' ? 'avx2' : 'neon'
    expect(() => choose({ kernel: other })).toThrow(
      `This machine cannot run the kernel '${other}'; it runs ${kernels.join(', ')}.`,
    )
  })
}
