/** Tests which node gets a job where a job has failed on one of late. */
import { expect, onTestFinished, test, vi } from 'vitest'
import { createCallBudget } from '../../../../gateway/src/calls/call-budget.ts'
import { meterDeps } from '../../../../gateway/src/calls/metered-deps.ts'
import { advanceUpdates } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { jobsForNode } from '../../../../gateway/src/adaptation/updates/job-assignment.ts'
import { isForOtherNodes } from '../../../../gateway/src/adaptation/updates/job-nodes.ts'
import {
  getUpdate,
  importTexts,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'
import { setPolicy } from '../../support/state/seed-masks.ts'

const MINUTE_MS = 60_000

/** Has a full node and a good one run an update. Returns the jobs that failed on the full one, without the id of the update. */
async function runUpdate(model: string, full: SimulatedNode, good: SimulatedNode): Promise<string[]> {
  const { id } = await startUpdate(model, [`${model}-a`])
  await advanceUpdates(testDeps(), model)
  const failed: string[] = []
  for (let turn = 0; turn < 40 && (await getUpdate(id)).finished_at === null; turn += 1) {
    await full.beat()
    failed.push(...full.jobs.map((job) => job.id.slice(id.length + 1)))
    const error = { code: 'internal_error', message: 'No disk space is left.' }
    for (const job of full.jobs) full.report({ id: job.id, state: 'failed', progress: 0, message: '', error })
    await full.beat()
    await good.beat()
    await good.work()
    await good.beat()
  }
  expect(await getUpdate(id)).toMatchObject({ state: 'promoted' })
  return failed
}

test('a node on which a job has failed gets others only while no other node takes them, or half an hour later', async () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  onTestFinished(() => warn.mockRestore())
  const model = 'full'
  const [full, good] = [new SimulatedNode('full-1', model), new SimulatedNode('full-2', model)]
  await full.beat()
  await good.beat()
  await setPolicy(model, { influence: { outlier_deviations: null } })
  await importTexts(`${model}-a`, 120)
  expect(await runUpdate(model, full, good)).toEqual(['calibrate', 'confirm-1'])
  // A confirmation is for a second node, as long as it may succeed there.
  expect(await runUpdate(model, full, good)).toEqual(['confirm-1'])
  const { id } = await startUpdate(model, [`${model}-a`])
  await advanceUpdates(testDeps(), model)
  expect(await jobsForNode(testDeps(), full.heartbeat())).toEqual([])
  const later = testDeps({ nowMs: () => Date.now() + 31 * MINUTE_MS })
  expect(await jobsForNode(later, full.heartbeat())).toMatchObject([{ id: `${id}-calibrate` }])
})

test('a node on which a job has failed gets another at once where it is alone', async () => {
  const model = 'full-alone'
  const node = new SimulatedNode('full-alone-1', model)
  await node.beat()
  await setPolicy(model, { influence: { outlier_deviations: null } })
  await importTexts(`${model}-a`, 120)
  const first = await startUpdate(model, [`${model}-a`])
  await advanceUpdates(testDeps(), model)
  await node.beat()
  const error = { code: 'internal_error', message: 'No disk space is left.' }
  for (const job of node.jobs) node.report({ id: job.id, state: 'failed', progress: 0, message: '', error })
  await node.beat()
  expect((await getUpdate(first.id)).state).toBe('failed')
  const { id } = await startUpdate(model, [`${model}-a`])
  await advanceUpdates(testDeps(), model)
  expect((await node.beat()).jobs).toMatchObject([{ id: `${id}-calibrate` }])
})

test('a job looks for another node that offers its method by one call, however many nodes there are', async () => {
  const model = 'crowd'
  const names = Array.from({ length: 8 }, (_, index) => `${model}-${index}`)
  for (const name of names) await new SimulatedNode(name, model).beat()
  const jobOf = (method: string) =>
    ({
      model,
      payload: { kind: 'calibrate', selection: { method } },
      avoidNodes: [names[0]],
      handedTo: [names[0]],
    }) as never
  const calls = createCallBudget()
  const metered = meterDeps(testDeps(), calls)
  const before = calls.left
  expect(await isForOtherNodes(metered, jobOf('of-nobody'), names[0] ?? '')).toBe(false)
  // The nodes, the last failed job of each (two statements), and those that offer the method.
  expect(before - calls.left).toBe(4)
  expect(await isForOtherNodes(metered, jobOf('continual-wanda'), names[0] ?? '')).toBe(true)
})
