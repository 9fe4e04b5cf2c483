/** Tests that a job which fails for a reason of its node, such as a full disk, goes to another node. */
import { env } from 'cloudflare:workers'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { Job } from '@copal/shared/wire/adaptation-jobs.ts'
import type { NodeEntry } from '@copal/shared/wire/admin.ts'
import { advanceUpdates } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { appendPendingAudit } from '../../../../gateway/src/audit/audit-chain.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { findJob } from '../../../../gateway/src/storage/db/queries/job-queries.ts'
import {
  adminJson,
  getUpdate,
  importTexts,
  SimulatedNode,
  startUpdate,
  testDeps,
} from '../../support/doubles/simulated-node.ts'
import { setPolicy } from '../../support/state/seed-masks.ts'
import { pendingAuditRows } from '../../support/state/rows-of.ts'

const db = openDatabase(env.DB)
const FULL = {
  code: 'internal_error',
  message:
    'No disk space left in /home/copal/datasets for a file. Free some, or move COPAL_HOME to a larger disk.',
}

/** Creates a model with nodes, of which none is asked to describe texts, and an update whose calibration job is queued. */
async function calibrating(model: string, count: number) {
  const nodes = Array.from({ length: count }, (_, index) => new SimulatedNode(`${model}-${index + 1}`, model))
  for (const node of nodes) await node.beat()
  await setPolicy(model, { influence: { outlier_deviations: null } })
  await importTexts(`${model}-a`, 40)
  const { id } = await startUpdate(model, [`${model}-a`])
  await advanceUpdates(testDeps(), model)
  return { nodes, id }
}

/** Has a node report that its jobs failed, and returns the jobs of the response. */
async function fail(node: SimulatedNode, error = FULL): Promise<Job[]> {
  for (const { id } of node.jobs) node.report({ id, state: 'failed', progress: 0.2, message: '', error })
  return (await node.beat()).jobs
}

/** Returns the last job that failed on a node, as the admin API lists it. */
async function failedJobOf(id: string): Promise<NodeEntry['last_failed_job']> {
  const { data } = await adminJson<{ data: NodeEntry[] }>('GET', '/nodes')
  return data.find((node) => node.id === id)?.last_failed_job
}

function silenceWarnings() {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  onTestFinished(() => warn.mockRestore())
  return warn
}

test('an update goes on on the other node when the disk of one is full, and the audit log names that one', async () => {
  const warn = silenceWarnings()
  const { nodes, id } = await calibrating('full', 2)
  const [broken, other] = nodes
  if (!broken || !other) throw new Error('no nodes')
  const failedOn: string[] = []
  for (let turn = 0; turn < 40 && (await getUpdate(id)).finished_at === null; turn += 1) {
    await broken.beat()
    failedOn.push(...broken.jobs.map((job) => job.kind))
    expect(await fail(broken)).toEqual([])
    await other.beat()
    await other.work()
    await other.beat()
  }
  expect(await getUpdate(id)).toMatchObject({ state: 'promoted', error: null })
  expect(failedOn).toContain('calibrate')
  const rows = (await pendingAuditRows()).filter(({ target }) => target === 'full-1')
  expect(rows.filter(({ action }) => action === 'node.job_failed')).toContainEqual(
    expect.objectContaining({ reason: FULL.message, after: { job: `${id}-calibrate`, error: FULL.code } }),
  )
  expect(await failedJobOf('full-1')).toMatchObject({ code: FULL.code, reason: FULL.message })
  expect(await failedJobOf('full-2')).toBeNull()
  expect(warn).toHaveBeenCalledWith(
    `Job ${id}-calibrate failed on node 'full-1' (internal_error) and goes to another node: ${FULL.message}`,
  )
})

test('a job fails after three nodes, and at once for an error that every node would give', async () => {
  silenceWarnings()
  const many = await calibrating('many-full', 4)
  for (const node of many.nodes) {
    await node.beat()
    await fail(node)
  }
  expect((await getUpdate(many.id)).error).toEqual({
    code: FULL.code,
    message: `Node 'many-full-3' reports: ${FULL.message}`,
  })
  // The node on which it failed for good is named too.
  expect(await failedJobOf('many-full-3')).toMatchObject({
    at: expect.any(String),
    job: `${many.id}-calibrate`,
    code: FULL.code,
    reason: FULL.message,
  })
  // Numbered or not, the newest counts.
  await appendPendingAudit(testDeps())
  expect(await failedJobOf('many-full-3')).toMatchObject({ job: `${many.id}-calibrate` })
  const wrong = await calibrating('wrong', 2)
  await wrong.nodes[0]?.beat()
  if (wrong.nodes[0])
    await fail(wrong.nodes[0], { code: 'insufficient_samples', message: 'The texts have too few tokens.' })
  expect((await getUpdate(wrong.id)).error?.code).toBe('insufficient_samples')
  expect(await failedJobOf('wrong-1')).toBeNull()
})

test('a job that a node is only to do if no other can goes to it before a node that has failed, and fails if it does there too', async () => {
  silenceWarnings()
  const { nodes, id } = await calibrating('last', 2)
  const [avoided, broken] = nodes
  if (!avoided || !broken) throw new Error('no nodes')
  const job = `${id}-calibrate`
  await env.DB.prepare('update jobs set avoid_nodes = ? where id = ?')
    .bind(JSON.stringify(['last-1']), job)
    .run()
  expect((await avoided.beat()).jobs).toEqual([])
  await broken.beat()
  expect([...(await fail(broken)), ...(await broken.beat()).jobs]).toEqual([])
  expect((await avoided.beat()).jobs.map((each) => each.id)).toEqual([job])
  expect(await findJob(db, job)).toMatchObject({ nodeId: 'last-1', stalls: 0 })
  await fail(avoided)
  expect((await getUpdate(id)).error?.message).toBe(`Node 'last-1' reports: ${FULL.message}`)
})
