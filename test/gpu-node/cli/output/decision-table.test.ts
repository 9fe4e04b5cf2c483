import { expect, test } from 'vitest'
import { figure } from '../../../../gateway/dashboard/dev/responses/figures.ts'
import { describeDecisions } from '../../../../gpu-node/cli/output/decision-table.ts'
import { renderTable } from '../../../../gpu-node/cli/output/table.ts'

test('domains that the gate did not judge are named in full below its figures', () => {
  const note = `not evaluated, because they have no holdout yet, which takes about 2048 held-out tokens: ${'law (has none), '.repeat(9)}mail (has about 310)`
  const text = describeDecisions(
    [
      {
        kind: 'gate',
        verdict: 'passed',
        reason: 'It is better.',
        mask_version: 2,
        actor: 'copal',
        created_at: '2026-11-28T20:00:00.000Z',
        figures: [figure('finite loss'), figure('domains without a holdout', { value: 10, note })],
      },
    ],
    { table: (columns, rows) => renderTable(columns, rows, 80) },
  )
  const lines = text.split('\n')
  expect(lines.at(-1)).toBe(`N${note.slice(1)}`)
  expect(lines.filter((line) => line.startsWith('domains without'))).toEqual([])
  expect(lines.at(-2)).toMatch(/^finite loss/)
})

test('figures of times that were not judged have neither passed nor failed', () => {
  const slow = figure('slow first tokens', { value: 0.9, lower: 0.8, upper: 1 })
  const text = describeDecisions(
    [
      {
        kind: 'watch',
        verdict: 'passed',
        reason: 'It is well.',
        mask_version: 2,
        actor: 'copal',
        created_at: '2026-11-28T20:00:00.000Z',
        figures: [slow, { ...slow, limit: 0.7, passed: false }, figure('finite loss')],
      },
    ],
    { table: (columns, rows) => renderTable(columns, rows, 80) },
  )
  expect(
    text
      .split('\n')
      .slice(-3)
      .map((line) => line.trim().split(/ +/).at(-1)),
  ).toEqual(['-', 'NO', 'yes'])
})
