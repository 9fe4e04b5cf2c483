import { execFileSync, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { describe, test, type TestContext } from 'vitest'
import type { HangLimits } from '../../../../../gpu-node/src/platform/hang-watch.ts'
import { startWeightSetProcess } from '../../../../../gpu-node/src/serving/backends/weight-set-process/weight-set-process.ts'
import { isAlive } from '../../../../../gpu-node/src/platform/process-identity.ts'
import type { StepBehaviour } from '../../../../support/faults/hanging-weight-set.ts'
import { temporaryDir } from '../../../../support/harness/temporary.ts'
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
describe.concurrent('the process of a weight set', () => {
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
      await expect.poll(() => isAlive(weightSet.pid!)).toBe(false)
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

test('the process of a weight set ends with its node, also while a thread of it hangs in a driver', async ({
  expect,
  onTestFinished,
}) => {
  const pipe = join(temporaryDir('copal-pipe'), 'pipe')
  execFileSync('mkfifo', [pipe])
  const child = fork(fileURLToPath(WORKER), { execArgv: [], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  child.send({ id: 1, kind: 'load', options: { pipe } })
  await once(child, 'message')
  child.send({ id: 2, kind: 'step', work: [], drop: [] })
  // By now it waits.
  await sleep(1000)
  child.disconnect()
  expect(await once(child, 'exit')).toEqual([null, 'SIGKILL'])
})
