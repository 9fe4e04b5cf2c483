/** Calibrations whose blocks run elsewhere than on the processor, by doubles, because a device's faults cannot be timed. */
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  createBlockRunner,
  LostBlockError,
  type CreateBlockRunner,
} from '../../../../gpu-node/src/pruning/calibration/block-runner.ts'
import { calibrateAndSelect } from '../../../../gpu-node/src/pruning/runs/calibrate-and-select.ts'
import type { CalibrationTask, DatasetFile } from '../../../../gpu-node/src/pruning/runs/calibration-task.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'
import { writeWordsDataset } from '../../../support/pruning/calibration-datasets.ts'

let tiny: TinyModel
let datasets: DatasetFile[]
let counter = 0

beforeAll(async () => {
  tiny = await openTinyModel({ layers: 3 })
  datasets = [
    await writeWordsDataset(tiny.dir, 'legal', 1, 60),
    await writeWordsDataset(tiny.dir, 'sea', 2, 60),
  ]
})
afterAll(() => tiny.remove())

async function select(createRunner: CreateBlockRunner | undefined, messages: string[] = []) {
  const dir = join(tiny.dir, `run-${counter++}`)
  const task: CalibrationTask = {
    datasets,
    accumulated: [],
    samples: 4,
    length: 32,
    seed: 7,
    selection: { method: 'copal+swaps', pattern: '0.5', scope: 'row' },
    parentMaskPath: null,
    created: '2026-11-25T00:00:00.000Z',
    workDir: join(dir, 'masks'),
    statisticsDir: join(dir, 'statistics'),
  }
  const options = { createRunner }
  return calibrateAndSelect(tiny.model, task, 1, ({ message }) => messages.push(message), options)
}

let sumsOfProcessor: ReturnType<typeof select> | undefined

/** Returns the outcome of a selection on the processor. It runs once for all tests. */
function byProcessor() {
  return (sumsOfProcessor ??= select(undefined))
}

/**
 * Creates a runner that loses its device. `calls` lists what it is asked for. `failAt` is the call, by its place, that loses
 * the block.
 */
function losing(calls: string[], failAt: number): CreateBlockRunner {
  return async (model, options) => {
    const runner = await createBlockRunner(model, options)
    const call = (name: string) => {
      if (calls.push(name) > failAt) throw new LostBlockError('the device was lost')
    }
    return {
      ...runner,
      async calibrate(...args) {
        call('calibrate')
        const sums = await runner.calibrate(...args)
        return {
          async finish(block) {
            call('finish')
            const tensors = await sums.finish(block)
            return tensors.map((tensor, index) => ({
              ...tensor,
              load: async () => {
                if (index === tensors.length - 1) call('load')
                return tensor.load()
              },
            }))
          },
        }
      },
      async release() {
        calls.push('release')
        await runner.release()
      },
    }
  }
}

// The run of a block, its statistics, the last of their values; in the first and in the second dataset.
test.each([0, 4, 5, 9 + 1])(
  'a block that is lost at call %i runs again on the processor, and finished blocks do not',
  async (failAt) => {
    const calls: string[] = []
    let created = 0
    const messages: string[] = []
    const { maskSha256 } = await select(
      (...args) => (created++ === 0 ? losing(calls, failAt) : createBlockRunner)(...args),
      messages,
    )
    expect(created).toBe(2)
    const blocks = Array.from({ length: 6 }, () => ['calibrate', 'finish', 'load']).flat()
    expect(calls).toEqual([...blocks.slice(0, failAt + 1), 'release'])
    expect(maskSha256).toBe((await byProcessor()).maskSha256)
    // The blocks of a dataset that were finished are not reported as calibrated twice.
    const lost = failAt < 9 ? 'legal' : 'sea'
    const resumed = Math.floor((failAt % 9) / 3)
    const reports = (block: number) =>
      messages.filter((message) => message === `calibrating ${lost}, block ${block} of 3`).length
    expect([0, 1, 2, 3].map(reports)).toEqual([0, 1, 2, 3].map((block) => (block === resumed ? 2 : 1)))
  },
)

test('a device that is given again after it lost a block is released each time', async () => {
  const calls: string[] = []
  let created = 0
  await select((...args) => (created++ < 3 ? losing(calls, calls.length) : createBlockRunner)(...args))
  expect(created).toBe(4)
  expect(calls).toEqual(Array.from({ length: 3 }, () => ['calibrate', 'release']).flat())
})

test('an error after a block was lost is the one that is thrown', async () => {
  let created = 0
  const run = select((...args) => {
    if (created++ > 0) throw new Error('no memory')
    return losing([], 0)(...args)
  })
  await expect(run).rejects.toThrow('no memory')
})
