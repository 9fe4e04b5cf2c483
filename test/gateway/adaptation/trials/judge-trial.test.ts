import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { judgeTrial } from '../../../../gateway/src/adaptation/trials/judge-trial.ts'
import { trialLimits } from '../../../../gateway/src/adaptation/trials/trial-judge.ts'

const db = openDatabase(env.DB)
const LIMITS = trialLimits(PRESETS.production, 1)
const MINUTE_MS = 60_000
let seeded = 0

interface Attempts {
  maskVersion: number
  count: number
  /** The minute of the trial in which they ended. */
  minute: number
  /** Of ten attempts, how many failed. */
  failed?: number
  firstTokenMs?: number
}

/** Stores the receipts of attempts that ended within a minute of a trial, at even distances. */
async function settle(model: string, attempts: readonly Attempts[]): Promise<void> {
  for (const { maskVersion, count, minute, failed = 0, firstTokenMs = 50 } of attempts) {
    seeded += 1
    await env.DB.prepare(
      `with recursive numbers(n) as (select 0 union all select n + 1 from numbers where n + 1 < ?2)
       insert into receipts (request_id, node_id, model, domain, mask_version, prompt_tokens, completion_tokens, finish_reason,
         queue_ms, time_to_first_token_ms, total_ms, estimated, created_at)
       select ?1 || n, 'node-1', ?3, 'code', ?4, 10, 5, iif(n % 10 < ?5, 'error', 'stop'), 0, ?6, ?6 + 100, 0,
         cast(?7 + n * 60000.0 / ?2 as integer)
       from numbers`,
    )
      .bind(`settled-${seeded}-`, count, model, maskVersion, failed, firstTokenMs, minute * MINUTE_MS)
      .run()
  }
}

/** Judges m2 as a canary beside m1. */
async function harmIn(model: string, attempts: readonly Attempts[]): Promise<string[]> {
  await settle(model, attempts)
  const trial = { model, judged: 2, reference: 1, active: 'reference', sinceMs: 0 } as const
  return (await judgeTrial(db, trial, LIMITS)).harmful.map(({ name }) => name)
}

test('a canary that fails and is slow only when all nodes are does no harm, however busy the service was before', async () => {
  const harmful = await harmIn('busy', [
    { maskVersion: 1, count: 12_000, minute: 1 },
    { maskVersion: 2, count: 400, minute: 1 },
    { maskVersion: 1, count: 2_000, minute: 20, failed: 8, firstTokenMs: 2_000 },
    { maskVersion: 2, count: 400, minute: 20, failed: 8, firstTokenMs: 2_000 },
  ])
  expect(harmful).toEqual([])
})

test('what the active mask answered before a node held the canary is not compared', async () => {
  const harmful = await harmIn('loading', [
    { maskVersion: 1, count: 800, minute: 1 },
    { maskVersion: 1, count: 200, minute: 10, failed: 8, firstTokenMs: 2_000 },
    { maskVersion: 2, count: 200, minute: 10, failed: 8, firstTokenMs: 2_000 },
  ])
  expect(harmful).toEqual([])
})

test('a canary that fails and is slow while the active mask is not does harm', async () => {
  const harmful = await harmIn('harmful', [
    { maskVersion: 1, count: 3_000, minute: 1 },
    { maskVersion: 2, count: 300, minute: 1, failed: 4, firstTokenMs: 900 },
  ])
  expect(harmful).toEqual(['failed requests', 'slow first tokens'])
})
