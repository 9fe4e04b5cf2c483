/** The page on canary and watch quotes its replay, and the replay is that of the code. */
import { expect, test } from 'vitest'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { readText, tableWith } from './markdown.ts'
import {
  BY_REQUEST,
  HARMFUL,
  HARMLESS,
  replayDay,
  requestsUntilHarm,
  TRAFFIC,
  type HarmfulResult,
  type HarmlessResult,
} from './replay/canary-replay.ts'

const PAGE = 'docs/measurements/canary.md'
const replay = JSON.parse(readText('docs/results/canary/replay.json')) as {
  policy: Record<string, number>
  traffic: typeof TRAFFIC
  harmless: HarmlessResult[]
  by_request: HarmlessResult
  harmful: HarmfulResult[]
}

test('the replay has the policy, the traffic and the cases of the code', () => {
  const { gate, canary } = PRESETS.production
  const { share, shadow_share, false_alarm } = canary
  const { max_regression, max_refresh_regression } = gate
  expect(replay.policy).toEqual({ max_regression, max_refresh_regression, share, shadow_share, false_alarm })
  expect(replay.traffic).toEqual(TRAFFIC)
  expect(replay.harmless).toMatchObject(HARMLESS)
  expect(replay.harmful).toMatchObject(HARMFUL)
})

test('masks without harm are rolled back on at most a hundredth of the days', () => {
  expect(replay.harmless.length).toBeGreaterThanOrEqual(3)
  for (const { days, rolledBack } of replay.harmless) {
    expect(days).toBeGreaterThanOrEqual(400)
    expect(rolledBack / days).toBeLessThanOrEqual(0.01)
  }
})

test('with requests as if they were independent it would be more than is promised', () => {
  expect(replay.by_request).toMatchObject(BY_REQUEST)
  expect(replay.by_request.rolledBack / replay.by_request.days).toBeGreaterThan(0.02)
})

test('a domain that is worse by 10 % in single requests, or 20 % in conversations, is rolled back in every trial', () => {
  for (const [length, least] of [
    [1, 1.1],
    [10, 1.2],
  ] as const) {
    const proven = replay.harmful.filter(
      ({ ratio, requestsOfConversation }) => ratio >= least && requestsOfConversation === length,
    )
    expect(proven.length).toBeGreaterThanOrEqual(2)
    expect(proven.map(({ caught, runs }) => caught / runs)).toEqual(proven.map(() => 1))
    const medians = proven.map(({ median }) => median ?? Infinity)
    expect(medians).toEqual([...medians].sort((a, b) => b - a))
  }
})

test('the code gives the first results of the replay', () => {
  for (const result of replay.harmful.filter(({ ratio }) => ratio >= 1.2))
    expect(result.first.map((_, run) => requestsUntilHarm(result, run))).toEqual(result.first)
  // A day of each case; that of a case without any roll-back has none.
  for (const result of replay.harmless.filter(({ rolledBack }) => rolledBack === 0))
    expect(replayDay(result, 0)).toBe(false)
})

test(`the tables of ${PAGE} are those of the replay`, () => {
  const page = readText(PAGE)
  expect(tableWith(page, 'Mask', 'Days').rows).toEqual(
    replay.harmless.map(({ name, requestsOfConversation, days, rolledBack }) => [
      name,
      String(requestsOfConversation),
      String(days),
      String(rolledBack),
    ]),
  )
  expect(tableWith(page, 'Perplexity of the domain', 'Median').rows).toEqual(
    replay.harmful.map(({ ratio, requestsOfConversation, caught, median, nineInTen }) => [
      `${ratio.toFixed(2)} ×`,
      String(requestsOfConversation),
      String(caught),
      String(median ?? '-'),
      String(nineInTen ?? '-'),
    ]),
  )
})
