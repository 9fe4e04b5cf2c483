/** Tests blocks that run on a GPU, also a software driver, against those of the processor. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { decodeMask } from '@copal/shared/mask/mask-codec.ts'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { GpuAddon, GpuCalibratorOptions } from '../../../../gpu-node/gpu/addon.d.ts'
import {
  createBlockRunner,
  LostBlockError,
  type BlockRunner,
} from '../../../../gpu-node/src/pruning/calibration/block-runner.ts'
import { createCalibrationPass } from '../../../../gpu-node/src/pruning/calibration/calibration-pass.ts'
import {
  createDeviceBlockRunner,
  type DeviceRunnerOptions,
} from '../../../../gpu-node/src/pruning/calibration/device-block-runner.ts'
import { deviceCalibrationBytes } from '../../../../gpu-node/src/pruning/calibration/device-memory.ts'
import { embedTokens } from '../../../../gpu-node/src/pruning/calibration/token-chunks.ts'
import type { TokenSequences } from '../../../../gpu-node/src/pruning/calibration/token-sequences.ts'
import { chooseDevice } from '../../../../gpu-node/src/pruning/runs/choose-device.ts'
import { calibrateAndSelect } from '../../../../gpu-node/src/pruning/runs/calibrate-and-select.ts'
import { openPartial } from '../../../../gpu-node/src/pruning/statistics/partial-artifact.ts'
import { statisticTensorSizes } from '../../../../gpu-node/src/pruning/statistics/statistic-names.ts'
import { gpu, skipWithoutGpu } from '../../../support/engine/gpu.ts'
import { createRandom } from '../../../support/harness/random.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'
import { writeWordsDataset } from '../../../support/pruning/calibration-datasets.ts'
import { maskChurn } from '../../../support/models/mask-figures.ts'

skipWithoutGpu('blocks of a calibration')
describe.runIf('addon' in gpu)('blocks on a GPU', () => {
  const { addon } = gpu as { addon: GpuAddon }
  let tiny: TinyModel
  beforeAll(async () => {
    tiny = await openTinyModel({ layers: 2, intermediateSize: 130 })
  })
  afterAll(() => tiny.remove())

  /** Two chunks, the second of them short. */
  function sequences(): TokenSequences {
    const random = createRandom(1)
    const tokens = Int32Array.from({ length: 34 * 64 }, () =>
      Math.floor(random() * tiny.model.config.vocabSize),
    )
    return { tokens, sequences: 34, length: 64 }
  }

  const onDevice = (changes: Partial<DeviceRunnerOptions> = {}): Promise<BlockRunner> =>
    createDeviceBlockRunner(tiny.model, {
      length: 64,
      open: (options) => addon.openCalibrator(options),
      pause: async () => {},
      onFault: (fault) => expect.unreachable(fault.message),
      ...changes,
    })
  const onProcessor = () => createBlockRunner(tiny.model, { length: 64, threads: 1, forward: true })

  /** Calibrates all blocks, and reads the statistics of each. */
  async function calibrate(runner: BlockRunner) {
    const hidden = embedTokens(tiny.model, sequences().tokens)
    const blocks = []
    for (let block = 0; block < 2; block++) {
      await runner.load(block)
      const sums = await runner.calibrate(sequences(), hidden, hidden)
      const statistics = new Map<string, Float32Array>()
      for (const tensor of await sums.finish(block)) {
        const values = Float32Array.from(await tensor.load())
        expect(values).toHaveLength(tensor.length)
        statistics.set(tensor.name, values)
      }
      blocks.push(statistics)
    }
    await runner.release()
    return { blocks, hidden }
  }

  /** The largest difference, relative to the largest number. */
  function difference(found: ArrayLike<number>, expected: ArrayLike<number>): number {
    expect(found).toHaveLength(expected.length)
    let [worst, scale] = [0, 0]
    for (let at = 0; at < expected.length; at++) {
      const error = Math.abs(found[at]! - expected[at]!)
      // `Math.max` keeps NaN.
      worst = Math.max(worst, error)
      scale = Math.max(scale, Math.abs(expected[at]!))
    }
    return worst / scale
  }

  /** Compares the bits. `toEqual` takes seconds for as many numbers. */
  const isSame = (one: Float32Array, other: Float32Array): boolean =>
    Buffer.from(one.buffer, one.byteOffset, one.byteLength).equals(
      Buffer.from(other.buffer, other.byteOffset, other.byteLength),
    )

  test('have the statistics and outputs of the processor but for rounding, and repeat to the bit', async () => {
    let pauses = 0
    const pause = async () => void pauses++
    const expected = await calibrate(await onProcessor())
    const found = await calibrate(await onDevice({ pause }))
    expect(pauses).toBeGreaterThan(2 * (7 + 2 * 3))
    for (const [block, statistics] of expected.blocks.entries()) {
      const names = [...statisticTensorSizes(tiny.model.config).keys()]
      expect([...found.blocks[block]!.keys()]).toEqual([...names].sort())
      for (const [name, values] of statistics)
        expect({ name, difference: difference(found.blocks[block]!.get(name)!, values) }).toEqual({
          name,
          difference: expect.toSatisfy((value: number) => value < 1e-5),
        })
    }
    expect(difference(found.hidden, expected.hidden)).toBeLessThan(1e-5)
    for (const statistics of ['all', 'moments'] as const) {
      const again = await calibrate(await onDevice({ statistics }))
      expect(isSame(again.hidden, found.hidden)).toBe(true)
      for (const [block, sums] of again.blocks.entries()) {
        expect(sums.size).toBe(statistics === 'all' ? 7 + 2 * 4 : 2 * 4)
        for (const [name, values] of sums)
          expect({ name, same: isSame(values, found.blocks[block]!.get(name)!) }).toEqual({
            name,
            same: true,
          })
      }
    }
  })

  test('run with the weights as they are, and drop an output that nobody wants', async () => {
    const run = async (runner: BlockRunner) => {
      const hidden = embedTokens(tiny.model, sequences().tokens)
      const before = hidden.slice()
      await runner.load(1)
      await runner.calibrate(sequences(), hidden, null)
      expect(hidden).toEqual(before)
      const weights = runner.weights.linears['self_attn.o_proj']
      for (let at = 0; at < weights.length; at += 2) weights[at] = 0
      runner.weights.inputNorm.fill(0.5)
      await runner.calibrate(sequences(), hidden, hidden)
      await runner.release()
      return hidden
    }
    const expected = await run(await onProcessor())
    expect(difference(await run(await onDevice()), expected)).toBeLessThan(1e-5)
  })

  test('a device that is lost within a block loses the block, and says so', async () => {
    const lostAtSecondBlock = async (options: GpuCalibratorOptions) => {
      const calibrator = await addon.openCalibrator(options)
      const [run, clear] = [calibrator.run.bind(calibrator), calibrator.clear.bind(calibrator)]
      let cleared = 0
      calibrator.run = (piece) => {
        if (cleared === 2) calibrator.provokeDeviceLoss()
        return run(piece)
      }
      calibrator.clear = () => {
        cleared++
        return clear()
      }
      return calibrator
    }
    const faults: string[] = []
    const createRunner = async () =>
      onDevice({
        open: lostAtSecondBlock,
        onFault: (fault) => faults.push(fault.message),
      })
    const pass = await createCalibrationPass(tiny.model, 64, 1, { createRunner })
    const partial = await openPartial(temporaryDir(), 'part')
    await expect(pass.run(sequences(), partial, () => undefined)).rejects.toBeInstanceOf(LostBlockError)
    expect(partial.blocksDone).toBe(1)
    expect(faults).toEqual([expect.stringContaining('the device was lost')])
    await pass.release()
  })

  test('values that are not finite are an error that names the block and the input', async () => {
    const runner = await onDevice()
    const hidden = embedTokens(tiny.model, sequences().tokens)
    await runner.load(0)
    // Their product exceeds the range of f32.
    runner.weights.linears['mlp.gate_proj'].fill(1e30)
    runner.weights.linears['mlp.up_proj'].fill(1e30)
    const sums = await runner.calibrate(sequences(), hidden, null)
    await expect(sums.finish(0)).rejects.toMatchObject({
      code: 'unsupported_model',
      message: expect.stringMatching(/^Block 0 .* \(mlp_hidden\)/) as string,
    })
    await runner.release()
  })

  test.each([
    { length: 64, statistics: 'all' },
    { length: 700, statistics: 'moments' },
    { length: 2500, statistics: 'all' },
  ] as const)('the memory of the device is that of the estimate: %o', async ({ length, statistics }) => {
    let bytes = 0
    const open = async (options: GpuCalibratorOptions) => {
      const calibrator = await addon.openCalibrator(options)
      const { weightBytes, sumBytes, activationBytes } = calibrator.memory()
      bytes = weightBytes + sumBytes + activationBytes
      return calibrator
    }
    const runner = await onDevice({ length, statistics, open })
    await runner.release()
    const expected = deviceCalibrationBytes(tiny.model.config, length, statistics)
    expect(Math.abs(bytes - expected)).toBeLessThan(20_000)
  })

  const select = async (work: ReturnType<typeof chooseDevice> | undefined, method: string) => {
    const dir = temporaryDir()
    const { maskPath } = await calibrateAndSelect(
      tiny.model,
      {
        datasets: [await writeWordsDataset(tiny.dir, 'legal', 1, 60)],
        accumulated: [],
        samples: 8,
        length: 64,
        seed: 1,
        selection: { method, pattern: '0.5', scope: 'row' },
        parentMaskPath: null,
        created: '2026-11-25T00:00:00.000Z',
        workDir: join(dir, 'masks'),
        statisticsDir: join(dir, 'statistics'),
      },
      1,
      () => undefined,
      work,
    )
    return decodeMask(await readFile(maskPath))
  }

  test.each(['copal', 'wanda'])(
    'masks of %s selected from them are those of the processor, but for scores that are almost the same',
    async (method) => {
      const warn = (message: string) => expect.unreachable(message)
      const work = chooseDevice({ gpu: { device: null }, pause: async () => {}, warn, load: () => addon })
      expect(maskChurn(await select(undefined, method), await select(work, method))).toBeLessThan(0.0005)
    },
  )

  test.each([
    ['does not open', { device: 'no such card' }, /no device is called 'no such card'/],
    ['is lost', { device: null }, /the device was lost/],
  ] as const)(
    'the processor takes over from a device that %s, with one warning',
    async (_, device, reason) => {
      let open = 0
      const openCalibrator = async (options: GpuCalibratorOptions) => {
        const calibrator = await addon.openCalibrator(options)
        open++
        const close = calibrator.close.bind(calibrator)
        calibrator.close = () => {
          open--
          close()
        }
        const run = calibrator.run.bind(calibrator)
        calibrator.run = (piece) => {
          calibrator.provokeDeviceLoss()
          return run(piece)
        }
        return calibrator
      }
      const warnings: string[] = []
      const load = () => ({ ...addon, openCalibrator })
      const warn = (message: string) => void warnings.push(message)
      const openWhenLeft: number[] = []
      const onLeft = () => void openWhenLeft.push(open)
      const work = chooseDevice({ gpu: device, pause: async () => {}, warn, onLeft, load })
      expect(await select(work, 'copal')).toEqual(await select(undefined, 'copal'))
      expect(warnings).toEqual([expect.stringMatching(reason)])
      expect(openWhenLeft).toEqual([0])
    },
  )
})
