/** A gateway that is killed at any call of the database, in each state of a trial, gets where one that was not killed gets. */
import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listDecisionsOf } from '../../../../gateway/src/storage/db/queries/decision-queries.ts'
import { findModel } from '../../../../gateway/src/storage/db/queries/model-queries.ts'
import { findUpdate, type UpdateRow } from '../../../../gateway/src/storage/db/queries/update-queries.ts'
import { advanceUpdate } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { watchMasks } from '../../../../gateway/src/adaptation/updates/mask-watch.ts'
import { SimulatedNode, testDeps } from '../../support/doubles/simulated-node.ts'
import { dieAtCall } from '../../support/faults/dying-gateway.ts'
import { seedMasks, seedScores, seedUpdate, setPolicy } from '../../support/state/seed-masks.ts'

const db = openDatabase(env.DB)
/** Far more than the calls that an advance makes. */
const MAX_CALLS = 40

interface Row {
  name: string
  begins: UpdateRow['state']
  /** The version that the node serves. */
  active: number
  /** The gap of m2 over m1 that scores show. */
  gap: number
  ends: UpdateRow['state']
  serves: number
  decisions: [kind: string, verdict: string][]
  isWatched?: boolean
}

const ROWS: Row[] = [
  {
    name: 'a canary that does harm',
    begins: 'canary',
    active: 1,
    gap: 0.3,
    ends: 'rolled_back',
    serves: 1,
    decisions: [['canary', 'failed']],
  },
  {
    name: 'a canary that is proven good',
    begins: 'canary',
    active: 1,
    gap: 0,
    ends: 'promoting',
    serves: 2,
    decisions: [['canary', 'passed']],
  },
  {
    name: 'a mask that is being promoted',
    begins: 'promoting',
    active: 2,
    gap: 0,
    ends: 'promoted',
    serves: 2,
    decisions: [['promote', 'done']],
    isWatched: true,
  },
  {
    name: 'a watched mask that does harm',
    begins: 'promoted',
    active: 2,
    gap: 0.3,
    ends: 'rolled_back',
    serves: 1,
    decisions: [['watch', 'failed']],
  },
  {
    name: 'a watched mask whose time is over',
    begins: 'promoted',
    active: 2,
    gap: 0,
    ends: 'promoted',
    serves: 2,
    decisions: [['watch', 'done']],
  },
]

test.each(ROWS)('$name: a kill at any call changes nothing about the end', async (row) => {
  let kills = 0
  for (let call = 1; call <= MAX_CALLS; call += 1) {
    const model = `kill-${ROWS.indexOf(row)}-${call}`
    const { id, step } = await begin(model, row)
    const died = await dieAtCall(call, () => step(11_000))
    // Another gateway goes on. A check that was begun is not repeated within ten seconds.
    await step(22_000)
    await step(33_000)
    expect([call, (await findUpdate(db, id))?.state]).toEqual([call, row.ends])
    const { activeVersion, canary, shadow, watch } = (await findModel(db, model)) ?? {}
    expect(activeVersion).toBe(row.serves)
    const running = [canary, shadow, watch].map((trial) => trial?.updateId ?? null)
    expect(running).toEqual(row.isWatched ? [null, id, id] : [null, null, null])
    const decisions = await listDecisionsOf(db, id)
    expect(decisions.map(({ kind, verdict }) => [kind, verdict])).toEqual(row.decisions)
    if (!died) break
    kills += 1
  }
  expect(kills).toBeGreaterThan(5)
  expect(kills).toBeLessThan(MAX_CALLS)
})

/** Brings a model into the state of a row, with a node that holds both masks. */
async function begin(model: string, { begins, active, gap }: Row) {
  const node = new SimulatedNode(`${model}-1`, model)
  await node.beat()
  await seedMasks(model, [1, 2], { active: begins === 'canary' ? 1 : null })
  await env.DB.prepare('update masks set promoted_at = 1 where model = ? and version = 1').bind(model).run()
  await setPolicy(model, {
    canary: { min_minutes: 0, min_scored_tokens: 1_000 },
    watch: { soak_minutes: 60 },
  })
  const id = await seedUpdate(model, 2, {
    state: begins,
    parentVersion: 1,
    finishedAt: begins === 'promoted' ? Date.now() : null,
  })
  if (begins === 'canary') await advanceUpdate(testDeps(), id)
  else await activateWatched(model, begins === 'promoted' ? id : undefined, gap)
  const [maskVersion, shadowVersion] = active === 1 ? [1, 2] : [2, 1]
  if (begins !== 'promoting')
    await seedScores(model, { maskVersion, shadowVersion, gap: active === 1 ? gap : -gap, count: 1_000 })
  const heartbeat = node.heartbeat({
    activeVersion: active,
    weightSets: [1, 2].map((version) => ({ version, state: 'ready', requests: 0 })),
  })
  const fleet = testDeps().fleet
  await fleet.heartbeat(heartbeat, active)
  const startedMs = Date.now()
  return {
    id,
    step: async (ms: number) => {
      const deps = testDeps({ nowMs: () => startedMs + ms })
      if (begins === 'promoted') await watchMasks(deps, model)
      else await advanceUpdate(deps, id)
    },
  }
}

/** Makes m2 active after m1; with an update it is watched, and its time is over unless it does harm. */
async function activateWatched(model: string, updateId: string | undefined, gap: number): Promise<void> {
  const sinceMs = Date.now()
  const watch = { version: 2, beside: 1, updateId, sinceMs, untilMs: gap > 0 ? sinceMs + 3_600_000 : sinceMs }
  const shadow = { version: 1, share: 0.5, beside: 2, sinceMs, updateId }
  await env.DB.batch([
    env.DB.prepare('update masks set promoted_at = ? where model = ? and version = 2').bind(sinceMs, model),
    env.DB.prepare(
      'update models set active_version = 2, previous_version = 1, watch = ?, shadow = ? where id = ?',
    ).bind(
      ...(updateId === undefined ? [null, null] : [JSON.stringify(watch), JSON.stringify(shadow)]),
      model,
    ),
  ])
}
