import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { GpuAddon } from '../../../../gpu-node/gpu/addon.d.ts'
import { benchGpu } from '../../../../gpu-node/bench/engine/gpu.ts'
import { GPU_SET_NAMES, layersThatFit, type GpuSet } from '../../../../gpu-node/bench/engine/gpu-sets.ts'
import {
  randomConfig,
  writeRandomMask,
  writeRandomMaster,
} from '../../../../gpu-node/bench/models/random-model.ts'
import { gpu, skipWithoutGpu } from '../../../support/engine/gpu.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { openTinyModel } from '../../../support/models/tiny-model.ts'

test('as many layers as the device and the disk hold, with all sets at once', () => {
  const whole = randomConfig('7b', Infinity)
  const layers = (sets: readonly GpuSet[], deviceBytes: number, diskBytes = 1e13) =>
    layersThatFit(whole, sets, { deviceBytes, diskBytes })
  // 6.5 billion weights in the layers of 7B.
  expect(layers(GPU_SET_NAMES, 80e9)).toBe(32)
  expect(layers(GPU_SET_NAMES, 24e9)).toBeGreaterThan(10)
  expect(layers(GPU_SET_NAMES, 24e9)).toBeLessThan(20)
  expect(layers(['dense'], 24e9)).toBe(32)
  expect(layers(['dense'], 8e9)).toBeLessThan(14)
  expect(layers(['dense'], 1e8)).toBe(0)
  expect(layers(['dense'], 80e9, 14e9)).toBeLessThan(16)
})

if ('addon' in gpu) testBench(gpu.addon)
else skipWithoutGpu('the benchmark')

function testBench(addon: GpuAddon): void {
  test('it reports bytes, speed, share of the bound and ratio to dense for every set and number of streams', async () => {
    const dir = temporaryDir()
    const tiny = await openTinyModel()
    const sizes = { hiddenSize: 64, intermediateSize: 8192, heads: 2, kvHeads: 1, headDim: 32, layers: 1 }
    const config = { ...tiny.model.config, ...sizes, vocabSize: 1000 }
    const model = { ...tiny.model, config, master: await writeRandomMaster(join(dir, 'master'), config) }
    const maskPaths = new Map([[0.5, join(dir, 'half')]])
    await writeRandomMask(join(dir, 'half'), model, 0.5)
    const sets: GpuSet[] = ['dense', '50%', 'int8']
    const lines: string[] = []
    await benchGpu({
      addon,
      model,
      sets,
      maskPaths,
      streams: [1, 3],
      context: 1,
      steps: 1,
      repetitions: 1,
      timeLimitMs: 60_000,
      bandwidth: 100,
      print: (text) => void lines.push(text),
    })
    await tiny.remove()
    const reported = (start: string) => lines.find((text) => text.startsWith(`${start} `)) ?? ''
    const perToken = (set: string) =>
      Number(/ (\d+) MB per token at 1 stream/.exec(reported(`${set}, head`))?.[1])
    // 1.6 million weights.
    expect(sets.map(perToken)).toEqual([3, 2, 2])
    for (const set of sets) {
      for (const streams of ['1 stream', '3 streams']) {
        const text = reported(`${streams}, ${set}`)
        expect(text).toMatch(/ \d+\.\d \([\d.–]+, n=1\) tokens\/s, \d+\.\d MB per token, .* % of the bound/)
        expect(text.endsWith('× dense')).toBe(set !== 'dense')
      }
    }
  })
}
