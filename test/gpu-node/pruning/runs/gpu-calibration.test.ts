/** An update whose second moments and exchanges are computed on a GPU, also a software driver: the whole child process. */
import { join } from 'node:path'
import { readFile } from 'node:fs/promises'
import { expect, onTestFinished, test } from 'vitest'
import { decodeMask } from '@copal/shared/mask/mask-codec.ts'
import { deviceExchangeBytes } from '../../../../gpu-node/src/pruning/calibration/device-memory.ts'
import { runCalibration } from '../../../../gpu-node/src/pruning/runs/run-calibration.ts'
import { gpu, skipWithoutGpu } from '../../../support/engine/gpu.ts'
import { openTinyModel } from '../../../support/models/tiny-model.ts'
import { writeWordsDataset } from '../../../support/pruning/calibration-datasets.ts'
import { maskChurn } from '../../../support/models/mask-figures.ts'

skipWithoutGpu('the mask of an update')
test.runIf('addon' in gpu)(
  'the mask of an update on a GPU is that of the processor, but for exchanges that gain almost nothing',
  async () => {
    const tiny = await openTinyModel()
    onTestFinished(() => tiny.remove())
    const { baseSha256 } = tiny.model.master
    const dataset = await writeWordsDataset(tiny.dir, 'legal', 1, 60)
    const warnings: string[] = []
    const events: string[] = []
    const select = async (onGpu: boolean) => {
      const { maskPath, swaps, artifacts } = await runCalibration({
        model: { spec: join(tiny.dir, 'model'), cacheDir: join(tiny.dir, 'cache'), id: 'tiny', baseSha256 },
        threads: 1,
        datasets: [dataset],
        accumulated: [],
        samples: 8,
        length: 64,
        seed: 1,
        selection: { method: 'copal+swaps', pattern: '0.5', scope: 'row' },
        parentMaskPath: null,
        created: '2026-11-25T00:00:00.000Z',
        workDir: join(tiny.dir, onGpu ? 'gpu' : 'processor'),
        statisticsDir: join(tiny.dir, onGpu ? 'gpu' : 'processor', 'statistics'),
        gpu: onGpu ? { device: null } : null,
        onWarning: (message) => warnings.push(message),
        onGpuLeft: (neededBytes) => events.push(`left, ${neededBytes} needed`),
        onProgress: ({ message }) => events.push(message),
      })
      return { mask: decodeMask(await readFile(maskPath)), swaps: swaps!, blocks: artifacts[0]!.blocks }
    }
    const onGpu = await select(true)
    // The memory of the calibration is free when the selection begins, which needs that of an exchange.
    const left = events.findIndex((event) => event.startsWith('left'))
    expect(events[left]).toBe(`left, ${deviceExchangeBytes(tiny.model.config)} needed`)
    expect(events.findLastIndex((event) => event.startsWith('calibrating'))).toBe(left - 1)
    expect(events[left + 1]).toMatch(/^exchanging weights/)
    events.length = 0
    const onProcessor = await select(false)
    expect(events.filter((event) => event.startsWith('left'))).toEqual([])
    expect(maskChurn(onProcessor.mask, onGpu.mask)).toBeLessThan(0.002)
    for (const [name, expected] of Object.entries(onProcessor.swaps)) {
      const found = onGpu.swaps[name]!
      expect(Math.abs(found.before / expected.before - 1)).toBeLessThan(1e-5)
      expect(found.after).toBeLessThan(found.before)
      expect(found.after).toBeLessThanOrEqual(expected.after + 1e-4 * expected.before)
    }
    // It was the GPU: its sums are rounded otherwise.
    expect(onGpu.blocks).not.toEqual(onProcessor.blocks)
    expect(warnings).toEqual([])
  },
)
