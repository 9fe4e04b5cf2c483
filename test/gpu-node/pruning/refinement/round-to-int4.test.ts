import { expect, onTestFinished, test, vi } from 'vitest'
import type { Addon } from '../../../../gpu-node/native/addon.d.ts'
import { loadNative, NativeUnavailableError } from '../../../../gpu-node/src/platform/native-addon.ts'
import { InferenceSession } from '../../../../gpu-node/src/pruning/graph/onnx-runtime.ts'
import { createReconstructor } from '../../../../gpu-node/src/pruning/refinement/reconstruct.ts'
import type { ReconstructionTask } from '../../../../gpu-node/src/pruning/refinement/reconstruct-rows.ts'
import { buildNative } from '../../../../infra/local/build-native.mjs'
import { skipWithoutAddon } from '../../../support/harness/skip-without-addon.ts'
import { isKept, outputError, randomTask } from '../../../support/pruning/reconstruction-task.ts'

// Without cargo nothing rounds, and nothing serves int4.
const built = await buildNative((line) => process.stderr.write(`${line}\n`))
if (built === 'no-cargo') testWithoutAddon()
else testRounding(loadNative())

function testWithoutAddon(): void {
  skipWithoutAddon('rounding to int4')
  test('without cargo the error names the addon', async () => {
    await expect(createReconstructor(1, { int4: true })).rejects.toThrow(NativeUnavailableError)
  })
}

function testRounding(addon: Addon): void {
  const cases = [
    { pattern: '0.5', scope: 'row', rows: 40, cols: 96 },
    { pattern: '0.7', scope: 'matrix', rows: 37, cols: 61 },
    { pattern: '2:4', scope: 'row', rows: 16, cols: 64 },
    { pattern: '0.5', scope: 'row', rows: 1, cols: 33 },
  ] as const

  test.each(cases)('$pattern of [$rows, $cols]: packing gives the rounded weights back', async (given) => {
    const task = randomTask(given, 21)
    const { weights, before, after } = await solve(task, { int4: true })
    const stored = weights.map(roundToBf16)
    expect(largestDifference(await multiplyByOnes(addon, task, stored), weights)).toBeLessThan(1e-5)
    expect(weights.filter((weight, i) => weight !== 0 && !isKept(task, i))).toHaveLength(0)
    expect(Math.abs(before / outputError(task, keptOf(task)) - 1)).toBeLessThan(1e-9)
    expect(Math.abs(after / outputError(task, weights) - 1)).toBeLessThan(1e-9)
  })

  test('rounding adds less than half of the output error that the nearest codes add', async () => {
    const task = randomTask({ pattern: '0.5', scope: 'row', rows: 64, cols: 192 }, 22)
    const solved = await solve(task)
    const nearest = outputError(task, await multiplyByOnes(addon, task, solved.weights))
    const rounded = await solve(task, { int4: true })
    expect(rounded.after - solved.after).toBeGreaterThan(0)
    expect(rounded.after - solved.after).toBeLessThan(0.5 * (nearest - solved.after))
  })

  test('the residual is computed once more, for the errors of the rounded weights, where no row got its first weights back', async () => {
    const task = randomTask({ pattern: '0.5', scope: 'row', rows: 300, cols: 160 }, 23)
    const chunks = 2
    // Its types describe the class as a factory alone, without a prototype.
    const runs = vi.spyOn((InferenceSession as unknown as { prototype: InferenceSession }).prototype, 'run')
    onTestFinished(() => runs.mockRestore())
    await solve(task)
    const withoutRounding = runs.mock.calls.length
    await solve(task, { int4: true })
    expect(withoutRounding).toBeGreaterThan(chunks)
    expect(runs.mock.calls.length - 2 * withoutRounding).toBe(chunks)
  })

  test('the weights do not depend on the number of threads', async () => {
    // More rows than are solved, and than are rounded, at once.
    const task = randomTask({ pattern: '0.5', scope: 'row', rows: 300, cols: 160 }, 23)
    const results = await Promise.all([1, 2, 5].map((threads) => solve(task, { int4: true, threads })))
    for (const result of results) expect(result).toEqual(results[0])
  })
}

async function solve(task: ReconstructionTask, { int4 = false, threads = 1 } = {}) {
  const reconstructor = await createReconstructor(threads, { int4 })
  try {
    return await reconstructor.solve(task)
  } finally {
    await reconstructor.release()
  }
}

/** Returns the weights that the engine's packed int4 multiplies by: its products with inputs of which one is 1. */
async function multiplyByOnes(
  addon: Addon,
  { rows, cols, bits }: ReconstructionTask,
  weights: Float32Array,
): Promise<Float32Array> {
  const packed = { weights, rows, cols, mask: bits, precision: 'int4', group: 32 } as const
  const matrix = await addon.pack(packed)
  const multiplier = new addon.Multiplier({ kernel: null, threads: 1, maxTokens: cols, maxCols: cols })
  const inputs = new Float32Array(cols * cols)
  for (let col = 0; col < cols; col++) inputs[col * cols + col] = 1
  const outputs = new Float32Array(cols * rows)
  multiplier.multiply(matrix, inputs, outputs)
  return new Float32Array(rows * cols).map((_, i) => outputs[(i % cols) * rows + Math.floor(i / cols)]!)
}

function keptOf(task: ReconstructionTask): Float32Array {
  return task.weights.map((weight, i) => (isKept(task, i) ? weight : 0))
}

/** Rounds as a weights file does, but ties may go either way. */
function roundToBf16(value: number): number {
  const unit = 2 ** (Math.floor(Math.log2(Math.abs(value))) - 7)
  return value === 0 ? 0 : Math.round(value / unit) * unit
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  return a.reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i]!)), 0)
}
