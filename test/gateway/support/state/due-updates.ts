/** What tests of triggers share: models with one node each, domains with new text, and the task that starts updates. */
import { env } from 'cloudflare:workers'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import type { TriggersReport } from '@copal/shared/wire/admin-triggers.ts'
import type { PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import { runTriggers } from '../../../../gateway/src/adaptation/triggers/run-triggers.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { adminJson, SimulatedNode, testDeps } from '../doubles/simulated-node.ts'
import { offeredSample } from '../requests/offered-sample.ts'
import { decisionRowsOf } from './rows-of.ts'

const db = openDatabase(env.DB)
export const MINUTE = 60_000
/** Times in which nothing may start for other reasons than those under test. */
export const AT_ONCE = { cooldown_minutes: 0, max_per_day: 100 }

export const setPolicy = (model: string, triggers: PolicyOverrides['triggers'], rest: PolicyOverrides = {}) =>
  adminJson('PUT', '/policy', { model, triggers, ...rest })
export const reportOf = (model: string) => adminJson<TriggersReport>('GET', `/triggers?model=${model}`)
export const updatesOf = async (model: string) =>
  (await adminJson<{ data: UpdateEntry[] }>('GET', '/updates')).data.filter(
    (update) => update.model === model,
  )
export const triggerDecisions = async (model: string) =>
  (await decisionRowsOf(model)).filter(({ kind }) => kind === 'trigger')

let nodes: SimulatedNode[] = []

/** Tells the fleet that the nodes are alive, however long the test has taken so far. */
export async function keepAlive(): Promise<void> {
  for (const node of nodes) await testDeps().fleet.heartbeat(node.heartbeat(), node.activeVersion)
}

/** Runs the task as if `minutes` had passed. */
export async function tick(minutes = 0): Promise<void> {
  await keepAlive()
  await runTriggers(testDeps({ nowMs: () => Date.now() + minutes * MINUTE }))
}

/** Creates a node of a model, whose domains are the only ones that can be due. */
export async function modelWithNode(model: string): Promise<SimulatedNode> {
  const node = new SimulatedNode(`${model}-1`, model)
  await node.beat()
  nodes.push(node)
  return node
}

/** Imports `segments` segments of 2,048 characters or more that an update can take, and as much held-out text as it needs. */
export async function importSegments(domain: string, segments: number, name = domain): Promise<void> {
  await ensureDomains(db, [domain], 0)
  const offers = (side: 'pool' | 'holdout', count: number) =>
    Array.from({ length: count }, (_, index) =>
      offeredSample(textOf(`${name} ${side} ${index}`), { side, atMs: Date.now() }),
    )
  await testDeps()
    .reservoir(domain)
    .offer([...offers('pool', segments * 2), ...offers('holdout', 8)])
}

/** Lets nothing of the tests before be due. */
export async function forgetModels(): Promise<void> {
  nodes = []
  await env.DB.exec(
    "UPDATE updates SET finished_at = coalesce(finished_at, 0), state = 'cancelled' WHERE finished_at IS NULL",
  )
  for (const table of ['domains', 'models', 'policies', 'usage_totals'])
    await env.DB.exec(`DELETE FROM ${table}`)
}

/** Returns 1,024 characters that are like those of no other name. */
export function textOf(name: string): string {
  let state = name.split('').reduce((hash, letter) => (Math.imul(hash, 31) + letter.charCodeAt(0)) >>> 0, 7)
  const words = Array.from({ length: 160 }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state.toString(36)
  })
  return `${name} ${words.join(' ')}`.slice(0, 1_024)
}
