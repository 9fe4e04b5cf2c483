import { env } from 'cloudflare:workers'
import { beforeEach, expect, test } from 'vitest'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { usageTotals } from '../../../../gateway/src/storage/db/schema/usage.ts'
import {
  AT_ONCE,
  forgetModels,
  importSegments,
  modelWithNode,
  reportOf,
  setPolicy,
  tick,
  updatesOf,
} from '../../support/state/due-updates.ts'

const db = openDatabase(env.DB)

beforeEach(forgetModels)

/** Scores of 5,000 tokens of a domain's traffic under a mask. */
const scoredUnder = (model: string, maskVersion: number, gap: number) => ({
  tenant: '',
  model,
  domain: `${model}-a`,
  maskVersion,
  finishReason: 'stop' as const,
  requests: 50,
  promptTokens: 5_000,
  completionTokens: 0,
  driftRequests: 50,
  driftTokens: 5_000,
  nllMasked: 5_000 * (3 + gap),
  nllDense: 5_000 * 3,
})

/** Promotes a first mask of a model, after which its domain has too little new text for a second one. */
async function updatedOnce(model: string): Promise<void> {
  const node = await modelWithNode(model)
  await importSegments(`${model}-a`, 24)
  await setPolicy(model, { ...AT_ONCE, max_gap: 0.4 })
  await tick()
  const [first] = await updatesOf(model)
  await node.finish(first?.id ?? '')
  await importSegments(`${model}-a`, 5, `more of ${model}`)
}

test('drift starts an update: the gap that was scored under the active mask alone', async () => {
  await updatedOnce('drift')
  await db.insert(usageTotals).values([scoredUnder('drift', 0, 5), scoredUnder('drift', 1, 0.39)])
  await tick(1)
  expect(await updatesOf('drift')).toHaveLength(1)
  await db.update(usageTotals).set({ nllMasked: 5_000 * 3.41 })
  await tick(1)
  const [second] = await updatesOf('drift')
  expect(second).toMatchObject({
    trigger: 'drift',
    trigger_reason: expect.stringContaining('0.410 nats a token, above 0.4'),
  })
})

test('the gap and the traffic of a domain with a mask of its own are those under that mask', async () => {
  await updatedOnce('drift-own')
  await env.DB.exec(`UPDATE models SET domain_versions = '{"drift-own-a":2}' WHERE id = 'drift-own'`)
  await db
    .insert(usageTotals)
    .values([
      { ...scoredUnder('drift-own', 1, 0.9), promptTokens: 0 },
      scoredUnder('drift-own', 2, 0.1),
      { ...scoredUnder('drift-own', 1, 0), domain: 'elsewhere' },
    ])
  await ensureDomains(db, ['elsewhere'], 0)
  await tick(1)
  expect(await updatesOf('drift-own')).toHaveLength(1)
  const { domains } = await reportOf('drift-own')
  const own = domains.find(({ domain }) => domain === 'drift-own-a')
  expect(own).toMatchObject({ gap: expect.closeTo(0.1, 9) as number, traffic_share: 0.5 })
})
