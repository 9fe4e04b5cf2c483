/** The page on the gate quotes its replay, and the replay is that of the code. */
import { expect, test } from 'vitest'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { readText, tableWith } from './markdown.ts'
import { gateCases } from './replay/gate-cases.ts'
import {
  FIRST_RUNS,
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

const casesOf = (group: GateResult['group']) => replay.cases.filter((each) => each.group === group)

test('the replay has the policy, the measured losses and the cases of the code', () => {
  expect(replay.policy).toEqual(PRESETS.production.gate)
  expect(replay.texts).toEqual(summarise(windows))
  expect(replay.cases).toMatchObject(gateCases(replay.cases[0]?.runs ?? 0))
  for (const { runs } of replay.cases) expect(runs).toBeGreaterThanOrEqual(20_000)
})

/** Text on which masks fail now and then, so that a holdout may lack all such texts. */
const WITH_FAILURES = 'short texts of novel alone'

test('masks that are as good as the active one fail the constraints in few gates', () => {
  const equal = casesOf('equal').filter(({ service }) => service !== WITH_FAILURES)
  for (const { by_constraint: failed } of equal) expect(failed).toBeLessThanOrEqual(0.02)
})

test('masks that are as good as the active one are rejected less than half as often with grown holdouts', () => {
  const equal = casesOf('equal').filter(({ service }) => service !== WITH_FAILURES)
  const grown = equal.filter((each) => each.grown === 1)
  expect(grown.length).toBeGreaterThanOrEqual(15)
  for (const { service, candidates, rejected } of grown) {
    const [small] = equal.filter(
      (each) => each.service === service && each.grown === 0 && each.candidates[0] === candidates[0],
    )
    expect(rejected).toBeLessThan((small?.rejected ?? 0) / 2)
  }
})

test('refreshes that are worse by what is allowed pass in at most 6 of 100 gates, also with three candidates in turn', () => {
  const limit = casesOf('limit').filter(({ service }) => service !== WITH_FAILURES)
  expect(limit.filter(({ candidates }) => candidates.length === 3).length).toBeGreaterThanOrEqual(10)
  for (const { rejected } of limit) expect(rejected).toBeGreaterThanOrEqual(0.94)
})

test('a domain that is truly 5 % worse is caught in at least 95 of 100 gates, also with three candidates in turn', () => {
  const worse = casesOf('constraint').filter(({ ratios }) => Object.values(ratios).includes(1.05))
  expect(worse.filter(({ candidates }) => candidates.length === 3)).toHaveLength(6)
  for (const { rejected } of worse) expect(rejected).toBeGreaterThanOrEqual(0.95)
})

test('the code gives the first runs of the replay', () => {
  for (const { first, windows: _, by_constraint: __, rejected: ___, ...situation } of replay.cases)
    expect(replayGate(windows, { ...situation, runs: FIRST_RUNS }).first).toBe(first)
})

/** Rows of a table whose columns are results of the same service and windows. */
function rowsOf(group: GateResult['group'], valueOf: (result: GateResult) => string): string[][] {
  const rows = new Map<string, string[]>()
  for (const each of casesOf(group)) {
    const counts = new Set(each.windows).size === 1 ? each.windows.slice(0, 1) : each.windows
    const head = [each.service, counts.join(' + ')]
    const row = rows.get(head.join()) ?? head
    rows.set(head.join(), [...row, valueOf(each)])
  }
  return [...rows.values()]
}

test(`the tables of ${PAGE} are those of the replay`, () => {
  const page = readText(PAGE)
  expect(tableWith(page, 'Text', 'Paired deviation').rows).toEqual(
    replay.texts.map((text) => [
      text.text,
      String(text.windows),
      String(text.dense_perplexity),
      `${text.parent_ratio} ×`,
      String(text.mean_difference),
      String(text.paired_deviation),
      String(text.refreshed_deviation),
      String(text.unpaired_deviation),
      String(text.neighbour_correlation),
    ]),
  )
  expect(tableWith(page, 'Service', 'Third candidate').rows).toEqual(
    rowsOf('equal', ({ rejected }) => percent(rejected)),
  )
  expect(tableWith(page, 'Service', 'Three in turn').rows).toEqual(
    rowsOf('limit', ({ rejected }) => percent(1 - rejected)),
  )
  expect(tableWith(page, 'Domain', '5 %, three in turn').rows).toEqual(
    rowsOf('constraint', ({ by_constraint: failed }) => percent(failed)),
  )
  expect(tableWith(page, 'Text', 'In a row').rows).toEqual(
    casesOf('in a row').map(({ service, windows: [count], inARow, rejected }) => [
      service,
      String(count),
      String(inARow),
      percent(1 - rejected),
    ]),
  )
})
