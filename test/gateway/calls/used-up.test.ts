/** Tests that work whose calls are used up ends with that error, whatever it catches otherwise, and logs no failure. */
import { env } from 'cloudflare:workers'
import { beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { CallsUsedUp, createCallBudget, isCallsUsedUp } from '../../../gateway/src/calls/call-budget.ts'
import { meterDeps } from '../../../gateway/src/calls/metered-deps.ts'
import type { Deps } from '../../../gateway/src/contracts/bindings.ts'
import { advanceDetectors } from '../../../gateway/src/adaptation/drift/detectors/advance-detectors.ts'
import { findDomains } from '../../../gateway/src/adaptation/intake/find-domains.ts'
import { countNow } from '../../../gateway/src/adaptation/sampling/domain-counts.ts'
import { runTriggers } from '../../../gateway/src/adaptation/triggers/run-triggers.ts'
import { releaseTexts } from '../../../gateway/src/adaptation/statistics/release-texts.ts'
import { advanceUpdates } from '../../../gateway/src/adaptation/updates/advance-update.ts'
import { watchMasks } from '../../../gateway/src/adaptation/updates/mask-watch.ts'
import { beginUpdate } from '../../../gateway/src/adaptation/updates/update-requests.ts'
import { callNode } from '../../../gateway/src/fleet/client/node-client.ts'
import { openDatabase } from '../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../gateway/src/storage/db/queries/domain-queries.ts'
import { deleteUnusedDatasets, freezeDataset } from '../../../gateway/src/storage/artifacts/datasets.ts'
import { findModel } from '../../../gateway/src/storage/db/queries/model-queries.ts'
import { listReservoirCounts } from '../../../gateway/src/storage/db/queries/reservoir-count-queries.ts'
import { findUpdate } from '../../../gateway/src/storage/db/queries/update-queries.ts'
import { setTrials } from '../../../gateway/src/storage/db/queries/trial-queries.ts'
import { testDeps } from '../support/doubles/simulated-node.ts'
import { newNode } from '../support/doubles/whole-updates.ts'
import { createKey } from '../support/requests/gateway-requests.ts'
import { seedMasks, seedUpdate } from '../support/state/seed-masks.ts'

const db = openDatabase(env.DB)

beforeAll(async () => {
  await ensureDomains(db, ['used-a', 'used-b'], 1)
  await createKey({ discoverDomains: true, sampling: 'always' })
  for (const id of ['used-1', 'used-2']) {
    await newNode(id)
    await seedMasks(id, [2, 1])
    const updateId = await seedUpdate(id, 2, { state: 'evaluating', domains: ['used-a'] })
    const model = await findModel(db, id)
    const watch = { version: 2, beside: 1, updateId, sinceMs: 1, untilMs: Date.now() + 1e9 }
    if (model) await setTrials(db, model, { watch })
  }
})

function silenceErrors() {
  const error = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => error.mockRestore())
  return error
}

/** Returns what was thrown; undefined if nothing was. */
function thrownBy(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error,
  )
}

const TASKS: Record<string, (deps: Deps) => Promise<unknown>> = {
  findDomains,
  runTriggers,
  advanceUpdates,
  watchMasks,
  advanceDetectors,
}

test.each(Object.entries(TASKS))(
  '%s ends without a failure, however few calls it may make',
  async (_, task) => {
    const failures = silenceErrors()
    const ends: boolean[] = []
    for (let calls = 0; calls <= 8; calls += 1) {
      const error = await thrownBy(task(meterDeps(testDeps(), createCallBudget(calls))))
      if (error !== undefined && !isCallsUsedUp(error)) throw error
      ends.push(error === undefined)
    }
    expect(ends[0]).toBe(false)
    expect(failures).not.toHaveBeenCalled()
  },
)

test('an update that cannot be started because the calls are used up is no failed start', async () => {
  const failures = silenceErrors()
  // The one call is that of the Workflow; the first step of the update gets none.
  const deps = meterDeps(testDeps(), createCallBudget(1))
  const error = await thrownBy(beginUpdate(deps, 'upd_x'))
  expect(isCallsUsedUp(error)).toBe(true)
  expect(failures).not.toHaveBeenCalled()
})

test('giving texts back and deleting datasets end without a failure, however few calls they may make', async () => {
  const failures = silenceErrors()
  const { sha256 } = await freezeDataset(testDeps(), 'used-b', [{ text: 'of nobody', sources: [] }])
  const update = await findUpdate(
    db,
    await seedUpdate('used-2', 1, { state: 'failed', finishedAt: 1, datasets: [sha256] }),
  )
  if (!update) throw new Error('no update')
  for (const work of [
    (deps: Deps) => releaseTexts(deps, update),
    (deps: Deps) => deleteUnusedDatasets(deps, [sha256]),
  ])
    for (let calls = 0; calls <= 2; calls += 1)
      expect(isCallsUsedUp(await thrownBy(work(meterDeps(testDeps(), createCallBudget(calls)))))).toBe(true)
  expect(failures).not.toHaveBeenCalled()
})

test('a call of a node that may not be made is no broken connection', async () => {
  const deps = meterDeps(testDeps(), createCallBudget(0))
  const node = { nodeId: 'used-1-1', url: 'http://127.0.0.1:9' }
  const attempt = new AbortController()
  await expect(callNode(deps, node, '/rpc/x', {}, { attempt })).rejects.toThrow(CallsUsedUp)
})

test('counting ends when its calls are used up, and what was counted is stored', async () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  onTestFinished(() => warn.mockRestore())
  const names = ['count-a', 'count-b', 'count-c']
  await ensureDomains(db, names, 1)
  const metered = meterDeps(testDeps(), createCallBudget(2))
  await expect(countNow({ ...metered, db }, names)).rejects.toThrow(CallsUsedUp)
  const stored = await listReservoirCounts(db)
  expect(names.filter((name) => stored.has(name))).toEqual(['count-a', 'count-b'])
  expect(warn).not.toHaveBeenCalled()
})
