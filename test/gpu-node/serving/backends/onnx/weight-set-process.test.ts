import { describe, test, type TestContext } from 'vitest'
import type { HangLimits } from '../../../../../gpu-node/src/platform/hang-watch.ts'
import { startWeightSetProcess } from '../../../../../gpu-node/src/serving/backends/onnx/weight-set-process.ts'
import { isAlive } from '../../../../../gpu-node/src/platform/process-identity.ts'
import type { StepBehaviour } from '../../../../support/faults/hanging-weight-set.ts'
import { appErrorOf } from '../../../../support/models/masked-scores.ts'

const WORKER = new URL('../../../../support/faults/hanging-weight-set.ts', import.meta.url)
const NEVER_MS = 10 * 60_000

async function started(
  behaviour: StepBehaviour,
  hangLimits: HangLimits,
  { onTestFinished }: Pick<TestContext, 'onTestFinished'>,
) {
  const name = 'mask version 3'
  const weightSet = startWeightSetProcess<StepBehaviour>({
    name,
    threads: 1,
    worker: WORKER,
    limits: () => hangLimits,
  })
  onTestFinished(() => weightSet.close())
  await weightSet.call({ kind: 'load', options: behaviour })
  return weightSet
}

// Together, because they mostly wait.
describe.concurrent('the process of a weight set', { timeout: 60_000 }, () => {
  test.for<[string, StepBehaviour, HangLimits, string]>([
    ['waits for ever', 'wait', { idleMs: 4000, workMs: NEVER_MS }, 'it used no processor time for 4 s'],
    [
      'computes for ever',
      'loop',
      { idleMs: NEVER_MS / 100, workMs: 1000 },
      'it used more than 1 s of each of 1 processors without a result',
    ],
  ])(
    'that %s in a step is killed, and its call says why',
    async ([, behaviour, limits, why], { expect, ...context }) => {
      const weightSet = await started(behaviour, limits, context)
      const failure = await appErrorOf(weightSet.step([], []))
      expect(failure.code).toBe('node_failed')
      expect(failure.message).toBe(`The process of mask version 3 was ended, because it hung: ${why}`)
      expect(await weightSet.ended).toBe(failure)
      await expect.poll(() => isAlive(weightSet.pid!), { timeout: 10_000 }).toBe(false)
    },
  )

  test('goes on if a step computes for longer than the limit, and blocks its event loop', async ({
    expect,
    ...context
  }) => {
    const weightSet = await started({ computeMs: 7000 }, { idleMs: 5000, workMs: NEVER_MS }, context)
    expect(await weightSet.step([], [])).toEqual([])
  })
})
