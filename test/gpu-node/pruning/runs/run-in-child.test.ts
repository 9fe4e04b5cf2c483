import { afterAll, beforeAll, describe, test, vi } from 'vitest'
import type { DatasetFile } from '../../../../gpu-node/src/pruning/runs/calibration-task.ts'
import type { ChildRequest } from '../../../../gpu-node/src/pruning/runs/pruning-child-protocol.ts'
import { runInChild } from '../../../../gpu-node/src/pruning/runs/run-in-child.ts'
import { stopAtProgress } from '../../../support/faults/stop-at-progress.ts'
import { appErrorOf } from '../../../support/models/masked-scores.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'
import { writeWordsDataset } from '../../../support/pruning/calibration-datasets.ts'
import { tinyCalibration } from '../../../support/pruning/tiny-calibration.ts'

const NEVER_MS = 10 * 60_000

let tiny: TinyModel
let dataset: DatasetFile

beforeAll(async () => {
  tiny = await openTinyModel({ layers: 3 })
  dataset = await writeWordsDataset(tiny.dir, 'legal', 1, 60)
})

afterAll(() => tiny.remove())

function request(share: number): ChildRequest {
  const { model, threads = 1, ...task } = tinyCalibration(tiny, dataset, `run-${share}`)
  return { kind: 'calibrate', model, threads, share, task: { ...task, length: 64 } }
}

// Together, because they mostly wait.
describe.concurrent('a calibration', { timeout: 120_000 }, () => {
  test.skipIf(process.platform !== 'linux')(
    'that stands still is killed, and fails with what happened',
    async ({ expect, onTestFinished }) => {
      for (const [name, value] of Object.entries(stopAtProgress('calibrating legal, block 2 of')))
        vi.stubEnv(name, value)
      onTestFinished(() => void vi.unstubAllEnvs())
      const running = runInChild(request(1), { limits: { idleMs: 4000, workMs: NEVER_MS } })
      vi.unstubAllEnvs()
      const failure = await appErrorOf(running)
      expect(failure.code).toBe('node_failed')
      expect(failure.message).toBe(
        'The calibration process was ended, because it hung: it used no processor time for 4 s. Try again.',
      )
    },
  )

  test('that waits for its share of the time for longer than the limit goes on', async ({ expect }) => {
    const result = await runInChild(request(1e-4), {
      limits: { idleMs: 12_000, workMs: NEVER_MS },
      watchTraffic(onChange) {
        onChange(true)
        // A piece of 3 ms is followed by a wait of 30 s.
        const timer = setTimeout(onChange, 20_000, false)
        return () => clearTimeout(timer)
      },
    })
    expect(result.type).toBe('calibrated')
  })
})
