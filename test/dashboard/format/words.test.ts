import { expect, test } from 'vitest'
import type { DecisionEntry } from '@copal/shared/wire/admin-decisions.ts'
import { endOfUpdate, verdictOf } from '../../../gateway/dashboard/src/format/words.ts'
import { updateOf } from '../../support/dashboard/reports.ts'

const passedGate: DecisionEntry = {
  kind: 'gate',
  verdict: 'passed',
  reason: '',
  mask_version: 14,
  actor: 'copal',
  created_at: '2026-11-28T12:00:00Z',
  figures: [],
}

test('an update was promoted, rolled back, cancelled or rejected; or it failed', () => {
  const ends = (['promoted', 'rolled_back', 'cancelled', 'failed'] as const).map((state) =>
    endOfUpdate({ state, error: null }),
  )
  expect(ends).toEqual(['was promoted', 'was rolled back', 'was cancelled', 'failed'])
  const error = { code: 'gate_failed', message: '' }
  const endBy = (kind: 'gate' | 'confirm') =>
    endOfUpdate(
      updateOf({
        state: 'failed',
        error,
        decisions: [passedGate, { ...passedGate, kind, verdict: 'failed' }],
      }),
    )
  expect(endBy('gate')).toBe('was rejected by the gate')
  expect(endBy('confirm')).toBe('was rejected in the confirmation')
  expect(endOfUpdate({ state: 'failed', error })).toBe('was rejected')
})

test('the gate rejects a mask, and does not fail', () => {
  expect(verdictOf({ kind: 'gate', verdict: 'failed' })).toBe('rejected')
  expect(verdictOf({ kind: 'gate', verdict: 'passed' })).toBe('passed')
  expect(verdictOf({ kind: 'confirm', verdict: 'failed' })).toBe('failed')
})
