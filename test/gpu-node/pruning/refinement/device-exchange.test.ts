/** Tests the refinement of masks on a GPU, also a software driver, against that of the processor. */
import { afterAll, describe, expect, test } from 'vitest'
import type { GpuAddon } from '../../../../gpu-node/gpu/addon.d.ts'
import { createDeviceExchange } from '../../../../gpu-node/src/pruning/refinement/device-exchange.ts'
import { totalError, type ExchangeLinear } from '../../../../gpu-node/src/pruning/refinement/exchange.ts'
import { createExchangePool } from '../../../../gpu-node/src/pruning/refinement/exchange-pool.ts'
import type { ExchangeRefiner } from '../../../../gpu-node/src/pruning/refinement/exchange-refiner.ts'
import { chooseDevice } from '../../../../gpu-node/src/pruning/runs/choose-device.ts'
import { gpu, skipWithoutGpu } from '../../../support/engine/gpu.ts'
import { measureGradientByDefinition } from '../../../support/pruning/exchange-gradient.ts'
import { randomLinear, upperTriangle } from '../../../support/pruning/random-linear.ts'

/** How much worse than on the processor the error of a row may be, relative to it. */
const TOLERANCE = 1e-4

if ('addon' in gpu) testGpu(gpu.addon)
else skipWithoutGpu('the refinement of masks')

function testGpu(addon: GpuAddon): void {
  const open = () => addon.openExchanger({})

  describe('on one device', () => {
    let pauses = 0
    const device = createDeviceExchange(open, async () => void pauses++)
    const processor = createExchangePool(1)
    afterAll(() => Promise.all([device.close(), processor.close()]))

    test.each([
      { pattern: '0.5', cols: 61, rows: 300 },
      { pattern: '0.7', cols: 333, rows: 20 },
      { pattern: '2:4', cols: 100, rows: 40 },
      { pattern: '5:16', cols: 112, rows: 20 },
      // Few distinct values, so that there are ties.
      { pattern: '0.5', cols: 200, rows: 40, coarse: true },
      // No weight is pruned.
      { pattern: '0.0001', cols: 20, rows: 5 },
    ])('a mask of $pattern with $cols columns is as good as that of the processor', async (given) => {
      const linear = randomLinear(given, 1)
      const before = Float64Array.from(linear.errors)
      const found = await refined(device, linear)
      const expected = await refined(processor, linear)
      expect(keptOf(found)).toEqual(keptOf(linear))
      for (let row = 0; row < given.rows; row++) {
        expect(found.errors[row]).toBeLessThanOrEqual(expected.errors[row]! * (1 + TOLERANCE))
        expect(found.errors[row]).toBeLessThanOrEqual(before[row]!)
      }
      expect(Math.abs(found.gain.before - totalError(before))).toBeLessThanOrEqual(1e-5 * totalError(before))
      expect(Math.abs(found.gain.after - totalError(found.errors))).toBeLessThanOrEqual(
        1e-5 * totalError(before),
      )
      const again = await refined(device, linear)
      expect(again.bits).toEqual(found.bits)
      expect(again.gain).toEqual(found.gain)
    })

    test('other work has its turn after each piece', async () => {
      const linear = randomLinear({ pattern: '0.5', cols: 16, rows: 600 }, 1)
      pauses = 0
      await refined(device, linear)
      // The beginning, H, and three pieces that are measured and refined.
      expect(pauses).toBe(1 + 1 + 3 + 3)
    })

    test('values that are not finite are rejected, and the mask is unchanged', async () => {
      const linear = randomLinear({ pattern: '0.5', cols: 16, rows: 4 }, 1)
      linear.moment[3] = linear.moment[48] = Number.POSITIVE_INFINITY
      const bits = Uint8Array.from(linear.bits)
      await expect(refined(device, linear)).rejects.toMatchObject({
        code: 'InvalidArg',
        message: expect.stringContaining('moment has a value that is not finite'),
      })
      expect(linear.bits).toEqual(bits)
    })
  })

  test('when a device is lost, the processor refines that linear and all later ones, and says so once', async () => {
    let opened = 0
    let left = 0
    const openExchanger: GpuAddon['openExchanger'] = async (options) => {
      opened++
      const exchanger = await addon.openExchanger(options)
      const addRows = exchanger.addRows.bind(exchanger)
      let added = 0
      exchanger.addRows = (weights, bits) => {
        if (++added === 2) exchanger.provokeDeviceLoss()
        return addRows(weights, bits)
      }
      return exchanger
    }
    const warnings: string[] = []
    const exchange = chooseDevice({
      gpu: { device: null },
      pause: async () => {},
      warn: (message) => warnings.push(message),
      onLeft: () => left++,
      load: () => ({ ...addon, openExchanger }),
    }).createExchange(1)
    const processor = createExchangePool(1)
    const first = randomLinear({ pattern: '0.5', cols: 20, rows: 600 }, 1)
    const second = randomLinear({ pattern: '2:4', cols: 16, rows: 10 }, 2)
    for (const linear of [first, second])
      expect((await refined(exchange, linear)).bits).toEqual((await refined(processor, linear)).bits)
    expect(warnings).toEqual([expect.stringContaining('the device was lost')])
    expect([opened, left]).toEqual([1, 1])
    await Promise.all([exchange.close(), processor.close()])
  })
}

/** Refines a copy of the mask of a linear, and measures its errors by their definition. */
async function refined(refiner: ExchangeRefiner, linear: ReturnType<typeof randomLinear>) {
  const bits = Uint8Array.from(linear.bits)
  const { rows, cols, group, weights } = linear
  const moment = refiner.unfold(upperTriangle(linear.moment, cols), cols)
  const gain = await refiner.refine({ rows, cols, group, weights, moment, bits })
  const result = { ...linear, bits, errors: new Float64Array(rows), gradient: new Float64Array(rows * cols) }
  measureGradientByDefinition(result)
  return { ...result, gain }
}

/** Returns the number of weights that each row, or each group, keeps. */
function keptOf({ rows, cols, group, bits }: ExchangeLinear): number[] {
  const size = group ?? cols
  const counts = Array.from({ length: (rows * cols) / size }, () => 0)
  for (let i = 0; i < rows * cols; i++) {
    const [row, col] = [Math.floor(i / cols), i % cols]
    counts[Math.floor(i / size)]! += (bits[row * Math.ceil(cols / 8) + (col >> 3)]! >> (col & 7)) & 1
  }
  return counts
}
