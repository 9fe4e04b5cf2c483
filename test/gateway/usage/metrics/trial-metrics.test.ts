import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { findModel, listModels, setTrial } from '../../../../gateway/src/storage/db/queries/model-queries.ts'
import { shadowSamples } from '../../../../gateway/src/usage/metrics/trial-metrics.ts'
import { sendHeartbeat } from '../../support/requests/gateway-requests.ts'
import { countCalls } from '../../support/state/counted-calls.ts'
import { seedMasks, seedScores } from '../../support/state/seed-masks.ts'

const counted = countCalls(env)
const db = openDatabase(counted.bindings.DB)

/** Gives a model a shadow that began an hour and a half ago, and scores of before and since, recent and older ones. */
async function shadow(model: string, version: number, gap: number): Promise<void> {
  await sendHeartbeat({ id: `${model}-node`, url: 'http://127.0.0.1:9' }, model)
  await seedMasks(model, [1, version])
  const row = await findModel(db, model)
  if (!row) throw new Error('the model is unknown')
  const nowMs = Date.now()
  const minutesAgo = (minutes: number) => nowMs - minutes * 60_000
  await setTrial(db, row, 'shadow', { version, share: 1, beside: 1, sinceMs: minutesAgo(90) })
  const scores = { maskVersion: 1, shadowVersion: version, gap, count: 3 }
  for (const minutes of [200, 80, 1]) await seedScores(model, { ...scores, atMs: minutesAgo(minutes) })
}

test('the scores of all shadows are read by one query, each under its own model, masks and time', async () => {
  await shadow('first', 2, 0.5)
  await shadow('second', 3, -0.25)
  await sendHeartbeat({ id: 'other-node', url: 'http://127.0.0.1:9' }, 'without')
  const models = await listModels(db)
  expect(models).toHaveLength(3)
  counted.take()
  const { shadowGap, shadowTokens } = await shadowSamples(db, models)
  expect(counted.take().all).toBe(1)
  expect(shadowGap).toEqual([
    { labels: ['first', 'code', 2, 'prompt'], value: expect.closeTo(0.5) as number },
    { labels: ['first', 'code', 2, 'answer'], value: 0 },
    { labels: ['second', 'code', 3, 'prompt'], value: expect.closeTo(-0.25) as number },
    { labels: ['second', 'code', 3, 'answer'], value: 0 },
  ])
  expect(shadowTokens).toMatchObject([240, 30, 240, 30].map((value) => ({ value })))
})

test('nothing is read where no model has a shadow', async () => {
  const models = (await listModels(db)).map((model) => ({ ...model, shadow: null }))
  counted.take()
  expect(await shadowSamples(db, models)).toEqual({ shadowGap: [], shadowTokens: [] })
  expect(counted.take().all).toBe(0)
})
