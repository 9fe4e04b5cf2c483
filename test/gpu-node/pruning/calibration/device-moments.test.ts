/** Tests second moments that a GPU sums, also a software driver, against those of the graphs. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { GpuAddon } from '../../../../gpu-node/gpu/addon.d.ts'
import { createCalibrationPass } from '../../../../gpu-node/src/pruning/calibration/calibration-pass.ts'
import { createDeviceMoments } from '../../../../gpu-node/src/pruning/calibration/device-moments.ts'
import {
  LostSumsError,
  type MomentSummer,
} from '../../../../gpu-node/src/pruning/calibration/moment-summer.ts'
import type { TokenSequences } from '../../../../gpu-node/src/pruning/calibration/token-sequences.ts'
import { accumulateStatistic } from '../../../../gpu-node/src/pruning/statistics/artifact-folder.ts'
import { openPartial } from '../../../../gpu-node/src/pruning/statistics/partial-artifact.ts'
import { statisticTensorSizes } from '../../../../gpu-node/src/pruning/statistics/statistic-names.ts'
import { gpu, skipWithoutGpu } from '../../../support/engine/gpu.ts'
import { createRandom } from '../../../support/harness/random.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

skipWithoutGpu('second moments')
describe.runIf('addon' in gpu)('second moments on a GPU', () => {
  const { addon } = gpu as { addon: GpuAddon }
  let tiny: TinyModel
  beforeAll(async () => {
    tiny = await openTinyModel({ layers: 2, intermediateSize: 130 })
  })
  afterAll(() => tiny.remove())

  /** Two chunks, the second of them short. */
  function sequences(): TokenSequences {
    const random = createRandom(1)
    const tokens = Int32Array.from({ length: 40 * 64 }, () =>
      Math.floor(random() * tiny.model.config.vocabSize),
    )
    return { tokens, sequences: 40, length: 64 }
  }

  async function calibrate(moments: MomentSummer | null) {
    const pass = await createCalibrationPass(tiny.model, 64, 1, { moments })
    try {
      const partial = await openPartial(temporaryDir(), 'part')
      await pass.run(sequences(), partial, () => undefined)
      const part = { id: 'part', datasetSha256: '', domain: 'sea', tokens: 40 * 64 }
      return await partial.publish(tiny.model.master.baseSha256, part)
    } finally {
      await pass.release()
    }
  }

  const deviceMoments = (changes: Partial<Parameters<typeof createDeviceMoments>[0]> = {}): MomentSummer =>
    createDeviceMoments({
      open: () => new addon.MomentSums({}),
      pause: async () => {},
      onFault: (fault) => expect.unreachable(fault.message),
      ...changes,
    })

  test('are those of the graphs but for rounding, repeat to the bit, and leave sensitivities alone', async () => {
    let pauses = 0
    const pause = async () => void pauses++
    const [expected, found, again] = [
      await calibrate(null),
      await calibrate(deviceMoments({ pause })),
      await calibrate(deviceMoments()),
    ]
    // For each of two blocks and four inputs, two chunks and a download.
    expect(pauses).toBe(2 * 4 * (2 + 1))
    expect(again.blocks).toEqual(found.blocks)
    for (let block = 0; block < 2; block++) {
      const names = [...statisticTensorSizes(tiny.model.config).keys()]
      for (const name of names.filter((each) => each.endsWith('sensitivity')))
        expect(found.blocks[block]![name]).toBe(expected.blocks[block]![name])
      for (const name of names.filter((each) => !each.endsWith('sensitivity'))) {
        const values = await accumulateStatistic([found], block, name)
        const graph = await accumulateStatistic([expected], block, name)
        expect(values).toHaveLength(graph.length)
        const scale = graph.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
        const worst = values.reduce((most, value, at) => Math.max(most, Math.abs(value - graph[at]!)), 0)
        expect(worst / scale).toBeLessThan(1e-6)
      }
    }
  })

  test('a device that is lost within a block loses its sums, and says so', async () => {
    class LostAtSecondBlock extends addon.MomentSums {
      private begun = 0
      override add(piece: number) {
        if (this.begun === 2) this.provokeDeviceLoss()
        return super.add(piece)
      }
      override begin(cols: Uint32Array) {
        this.begun++
        return super.begin(cols)
      }
    }
    const faults: string[] = []
    const moments = deviceMoments({
      open: () => new LostAtSecondBlock({}),
      onFault: (fault) => faults.push(fault.message),
    })
    await expect(calibrate(moments)).rejects.toBeInstanceOf(LostSumsError)
    expect(faults).toEqual([expect.stringContaining('the device was lost')])
  })
})
