import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { judgeTrial } from '../../../../gateway/src/adaptation/trials/judge-trial.ts'
import { judgeSums, trialLimits } from '../../../../gateway/src/adaptation/trials/trial-judge.ts'
import { insertShadowScores } from '../../../../gateway/src/storage/db/queries/shadow-score-queries.ts'
import { createRandom } from '../../../support/harness/random.ts'
import { TrialTally } from '../../../support/trials/trial-tally.ts'

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
  /** Their clients left after this time, milliseconds, without a token. */
  leftAfterMs?: number
  /** The conversation of all of them; each has its own if it is left out. */
  conversation?: number
  namesWeights?: boolean
}

/** Stores the receipts of attempts that ended within a minute of a trial, at even distances. */
async function settle(model: string, attempts: readonly Attempts[]): Promise<void> {
  for (const each of attempts) {
    const { maskVersion, count, minute, failed = 0, firstTokenMs = 50 } = each
    seeded += 1
    await env.DB.prepare(
      `with recursive numbers(n) as (select 0 union all select n + 1 from numbers where n + 1 < ?2)
       insert into receipts (request_id, node_id, model, domain, mask_version, prompt_tokens, completion_tokens, finish_reason,
         queue_ms, time_to_first_token_ms, total_ms, estimated, created_at, conversation, names_weights)
       select ?1 || n, 'node-1', ?3, 'code', ?4, 10, 5, iif(?10 is not null, 'cancelled', iif(n % 10 < ?5, 'error', 'stop')), 0, iif(?10 is null, ?6, null),
         coalesce(?10, ?6 + 100), 0,
         cast(?7 + n * 60000.0 / ?2 as integer), ?8, ?9
       from numbers`,
    )
      .bind(
        `settled-${seeded}-`,
        count,
        model,
        maskVersion,
        failed,
        firstTokenMs,
        minute * MINUTE_MS,
        each.conversation ?? null,
        each.namesWeights === undefined ? null : Number(each.namesWeights),
        each.leftAfterMs ?? null,
      )
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

test('a canary does no harm whose failures are all of one conversation, that a client repeats', async () => {
  const harmful = await harmIn('loop', [
    { maskVersion: 1, count: 3_000, minute: 1 },
    { maskVersion: 2, count: 300, minute: 1 },
    { maskVersion: 2, count: 300, minute: 1, failed: 10, conversation: 7 },
  ])
  expect(harmful).toEqual([])
})

test('a canary that is so slow that clients leave does harm, and has not failed their requests', async () => {
  const harmful = await harmIn('left', [
    { maskVersion: 1, count: 3_000, minute: 1 },
    { maskVersion: 1, count: 300, minute: 1, leftAfterMs: 100 },
    { maskVersion: 2, count: 200, minute: 1 },
    { maskVersion: 2, count: 200, minute: 1, leftAfterMs: 5_000 },
  ])
  expect(harmful).toEqual(['slow first tokens'])
})

test('requests that name the weights are no evidence about a canary', async () => {
  const harmful = await harmIn('named', [
    { maskVersion: 1, count: 3_000, minute: 1, namesWeights: false },
    { maskVersion: 2, count: 300, minute: 1, namesWeights: false },
    { maskVersion: 2, count: 300, minute: 1, failed: 10, firstTokenMs: 900, namesWeights: true },
  ])
  expect(harmful).toEqual([])
})

test('the database sums the scores of conversations, of all traffic and of each domain in the order of their first', async () => {
  await env.DB.prepare(
    `insert or ignore into domains (name, created_at) values ('law', 0), ('code', 0)`,
  ).run()
  const random = createRandom(5)
  const wide = { ...LIMITS, maxGap: Math.log(2), maxDomainGap: Math.log(5) }
  const tallies = [LIMITS, wide].map((limits) => ({ limits, tally: new TrialTally(limits) }))
  const versions = { model: 'sums', maskVersion: 1, shadowVersion: 2 }
  for (let index = 0; index < 300; index += 1) {
    const requestId = `sums-${String(index).padStart(8, '0')}`
    // Scores of older gateways name no conversation; each is one.
    const conversation = index % 10 === 9 ? undefined : Math.floor(random() * 40)
    const domain = ['law', 'code', 'unregistered'][index % 3] ?? ''
    const tokens = 1 + Math.floor(random() * 9)
    const gap = 0.3 * (random() - 0.5) + (index % 50 === 0 ? 3 : 0)
    const prompt = { tokens, nll: 3 * tokens, nllShadow: (3 + gap) * tokens }
    const answer = { tokens: 0, nll: 0, nllShadow: 0 }
    await insertShadowScores(
      db,
      [{ requestId, ...versions, domain, prompt, answer, conversation }],
      1_000 + index,
    )
    const score = {
      conversation: conversation ?? requestId,
      domain: domain === 'unregistered' ? '(other)' : domain,
      tokens,
      gap,
    }
    for (const { tally } of tallies) tally.addScore(score)
  }
  const trial = { model: 'sums', judged: 2, reference: 1, active: 'reference', sinceMs: 0 } as const
  for (const { limits, tally } of tallies) {
    const verdict = await judgeTrial(db, trial, limits)
    const expected = judgeSums(tally.sums(), limits)
    expect(verdict.figures).toHaveLength(4)
    for (const [index, figure] of verdict.figures.entries()) {
      const { value, lower, upper, ...rest } = expected.figures[index] ?? {}
      expect(figure).toMatchObject(rest)
      for (const name of ['value', 'lower', 'upper'] as const)
        expect(figure[name]).toBeCloseTo({ value, lower, upper }[name] ?? Number.NaN, 9)
    }
    expect(verdict).toMatchObject({ scoredRequests: 300, scoredTokens: expected.scoredTokens })
  }
})
