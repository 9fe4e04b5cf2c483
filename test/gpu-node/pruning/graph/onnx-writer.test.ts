import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { InferenceSession, Tensor } from '../../../../gpu-node/src/pruning/graph/onnx-runtime.ts'
import { expect, test } from 'vitest'
import { encodeModel, type OnnxGraph } from '../../../../gpu-node/src/pruning/graph/onnx-writer.ts'

/** y = gather(x Wᵀ · alpha, rows), with alpha as a float attribute and rows inline. */
function gatherLinear(weight: OnnxGraph['initializers'][number]): OnnxGraph {
  return {
    name: 'gather-linear',
    inputs: [{ name: 'x', type: 'float32', shape: ['tokens', 3] }],
    outputs: [{ name: 'y', type: 'float32', shape: ['rows', 2] }],
    initializers: [weight, { name: 'rows', type: 'int64', shape: [2], data: new BigInt64Array([1n, -1n]) }],
    nodes: [
      {
        op: 'Gemm',
        inputs: ['x', 'w'],
        outputs: ['all'],
        attributes: { transB: { int: 1 }, alpha: { float: 0.5 } },
      },
      { op: 'Gather', inputs: ['all', 'rows'], outputs: ['y'], attributes: { axis: { int: 0 } } },
    ],
  }
}

function valuesOf(tensor: Tensor | undefined): number[] {
  return [...(tensor?.data ?? [])].map(Number)
}

const WEIGHT = new Float32Array([1, 2, 3, 4, 5, 6])
const X = new Tensor('float32', new Float32Array([9, 9, 9, 1, 0, 2, 0, 1, 0]), [3, 3])
const EXPECTED = [3.5, 8, 1, 2.5]

test('a model with inline initializers, typed attributes and a negative int64 runs', async () => {
  const model = encodeModel(gatherLinear({ name: 'w', type: 'float32', shape: [2, 3], data: WEIGHT }))
  const session = await InferenceSession.create(model)
  const { y } = await session.run({ x: X })
  expect(y?.dims).toEqual([2, 2])
  expect(valuesOf(y)).toEqual(EXPECTED)
})

test('an initializer is read from an offset of a file beside the model', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'copal-onnx-writer-'))
  try {
    await writeFile(
      join(directory, 'weights.bin'),
      Buffer.concat([Buffer.alloc(64, 0xff), Buffer.from(WEIGHT.buffer)]),
    )
    const external = { location: 'weights.bin', offset: 64, length: 24 }
    const model = encodeModel(gatherLinear({ name: 'w', type: 'float32', shape: [2, 3], external }))
    await writeFile(join(directory, 'model.onnx'), model)
    const session = await InferenceSession.create(join(directory, 'model.onnx'))
    const { y } = await session.run({ x: X })
    expect(valuesOf(y)).toEqual(EXPECTED)
  } finally {
    await rm(directory, { recursive: true })
  }
})

test('ints, floats and strings attributes reach operators of both domains', async () => {
  const model = encodeModel({
    name: 'attributes',
    inputs: [{ name: 'x', type: 'float32', shape: [1, 4] }],
    outputs: [
      { name: 'y', type: 'float32', shape: [1, 4] },
      { name: 'z', type: 'float32', shape: [3] },
    ],
    initializers: [],
    nodes: [
      {
        op: 'QuickGelu',
        domain: 'com.microsoft',
        inputs: ['x'],
        outputs: ['y'],
        attributes: { alpha: { float: 1 } },
      },
      { op: 'Constant', inputs: [], outputs: ['c'], attributes: { value_floats: { floats: [1.5, -2, 3] } } },
      { op: 'Constant', inputs: [], outputs: ['k'], attributes: { value_ints: { ints: [3] } } },
      { op: 'Reshape', inputs: ['c', 'k'], outputs: ['z'] },
    ],
  })
  const session = await InferenceSession.create(model)
  const { y, z } = await session.run({ x: new Tensor('float32', new Float32Array([0, 1, -1, 2]), [1, 4]) })
  expect(valuesOf(z)).toEqual([1.5, -2, 3])
  ;[0, 1, -1, 2].forEach((v, i) => expect(valuesOf(y)[i]).toBeCloseTo(v / (1 + Math.exp(-v)), 5))
})

test('an initializer whose bytes do not match its shape is an error that names it', () => {
  expect(() =>
    encodeModel(gatherLinear({ name: 'w', type: 'float32', shape: [3, 3], data: WEIGHT })),
  ).toThrow('initializer w: float32 [3, 3] takes 36 bytes, got 24')
})
