/** The page on the gate quotes its replay, and the replay is that of the code. */
import { expect, test } from 'vitest'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { readText, tableWith } from './markdown.ts'
import {
  FIRST_RUNS,
  gateCases,
  replayGate,
  summarise,
  type GateResult,
  type GateWindows,
  type TextSummary,
} from './replay/gate-replay.ts'

const PAGE = 'docs/measurements/gate.md'
const windows = JSON.parse(readText('docs/results/gate/windows.json')) as GateWindows
const replay = JSON.parse(readText('docs/results/gate/replay.json')) as {
  policy: object
  texts: TextSummary[]
  cases: GateResult[]
}
const percent = (share: number) => `${(share * 100).toFixed(2)} %`

test('the replay has the policy, the measured losses and the cases of the code', () => {
  expect(replay.policy).toEqual(PRESETS.production.gate)
  expect(replay.texts).toEqual(summarise(windows))
  expect(replay.cases).toMatchObject(gateCases(windows, replay.cases[0]?.runs ?? 0))
})

test('masks that are as good as the active one fail the constraints in at most a hundredth of the gates', () => {
  const equal = replay.cases.filter(({ ratios }) => Object.values(ratios).every((ratio) => ratio === 1))
  expect(equal).toHaveLength(7)
  for (const { runs, by_constraint: failed } of equal) {
    expect(runs).toBeGreaterThanOrEqual(10_000)
    expect(failed).toBeLessThanOrEqual(0.01)
  }
})

test('a domain that is truly 5 % worse is caught in at least 95 of 100 gates, also with three candidates in turn', () => {
  const worse = replay.cases.filter(({ ratios }) => Object.values(ratios).some((ratio) => ratio >= 1.05))
  expect(worse.length).toBeGreaterThanOrEqual(5)
  expect(worse.filter(({ candidates }) => candidates.length === 3)).toHaveLength(3)
  for (const { rejected } of worse) expect(rejected).toBeGreaterThanOrEqual(0.95)
})

test('the code gives the first runs of the replay', () => {
  for (const { first, by_constraint: _, rejected: __, ...situation } of replay.cases)
    expect(replayGate(windows, { ...situation, runs: FIRST_RUNS }).first).toBe(first)
})

test(`the tables of ${PAGE} are those of the replay`, () => {
  const page = readText(PAGE)
  expect(tableWith(page, 'Text', 'Paired deviation').rows).toEqual(
    replay.texts.map((text) => [
      text.text,
      String(text.dense_perplexity),
      `${text.parent_ratio} ×`,
      String(text.mean_difference),
      String(text.paired_deviation),
      String(text.unpaired_deviation),
      String(text.neighbour_correlation),
    ]),
  )
  expect(tableWith(page, 'True difference', 'Rejected').rows).toEqual(
    replay.cases.map(({ name, by_constraint: byConstraint, rejected }) => [
      name,
      percent(byConstraint),
      percent(rejected),
    ]),
  )
})
