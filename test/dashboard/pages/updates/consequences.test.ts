import { expect, test } from 'vitest'
import type { DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import { forceConsequences } from '../../../../gateway/dashboard/src/pages/updates/consequences.ts'
import { updateOf } from '../../../support/dashboard/reports.ts'

test('a forced mask is named with what rejected it: figures of the gate, or the confirmation', () => {
  const update = updateOf({ mask_version: 14, parent_version: 13 })
  const figure = (passed: boolean) => ({ passed }) as DecisionFigure
  const first = (kind: 'gate' | 'confirm', figures: DecisionFigure[]) =>
    forceConsequences(update, { kind, figures })[0]
  expect(first('gate', [figure(true), figure(false)])).toMatch(
    /although 1 figure of the gate misses its limit\.$/,
  )
  expect(first('gate', [figure(false), figure(false)])).toMatch(
    /although 2 figures of the gate miss their limits\.$/,
  )
  expect(first('confirm', [figure(false)])).toMatch(/although its confirmation failed\.$/)
})
