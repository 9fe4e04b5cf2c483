import { expect, test } from 'vitest'
import type { DecisionEntry, DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import { figure } from '../../../../gateway/dashboard/dev/responses/figures.ts'
import {
  canarySentence,
  endedSentence,
  nextSentence,
  runningSentence,
  stateOfUpdate,
  verdictOfFigure,
} from '../../../../gateway/dashboard/src/pages/updates/update-words.ts'
import { updateOf } from '../../../support/dashboard/reports.ts'

/** Numbers keep their units by a narrow space that does not break. */
const plain = (text: string) => text.replaceAll('\u202F', ' ')

const update = updateOf({ domains: ['speech', 'code'], mask_version: 14, parent_version: 13 })
const decision: DecisionEntry = {
  kind: 'watch',
  verdict: 'failed',
  reason: '',
  mask_version: 14,
  actor: 'copal',
  created_at: '2026-11-28T12:00:00Z',
  figures: [],
}

test('a running update tells its step, its node and the time left', () => {
  const job = { state: 'running', progress: 0.2, message: '', node: 'node-2', attempt: 1 } as const
  const step = { progress: 0.428, secondsLeft: 610 }
  expect(plain(runningSentence({ ...update, state: 'calibrating', job }, step))).toBe(
    'The update of speech and code is calibrating on node-2: 43 % of this step, about 10 min left.',
  )
  expect(runningSentence({ ...update, state: 'canary' }, undefined)).toBe(
    'The update of speech and code is in the canary of mask 14.',
  )
})

test('a promoted update tells whether it helped', () => {
  const figures = [figure('perplexity / parent, weighted', { value: 0.958, upper: 0.97 })]
  const gate: DecisionEntry = { ...decision, kind: 'gate', verdict: 'passed', figures }
  expect(plain(endedSentence({ ...update, state: 'promoted', decisions: [gate] }))).toBe(
    'Mask 14 was promoted; it was selected from speech and code. Perplexity over all domains fell by 4.2 % against mask 13.',
  )
})

test('a rolled back and a rejected update tell why', () => {
  const decisions = [{ ...decision, reason: 'Rolled back: its loss is too high.' }]
  expect(endedSentence({ ...update, state: 'rolled_back', decisions })).toBe(
    'Mask 14 was rolled back to mask 13, and what it learned of speech and code does not count. Its loss is too high.',
  )
  const error = { code: 'gate_failed', message: '' }
  expect(endedSentence({ ...update, state: 'failed', error })).toBe(
    'Mask 14 was rejected, so mask 13 stayed in use.',
  )
  const confirm = { ...decision, kind: 'confirm', reason: 'Too few bits are equal.' } as const
  expect(endedSentence({ ...update, state: 'failed', error, decisions: [confirm] })).toBe(
    'Mask 14 was rejected in the confirmation, so mask 13 stayed in use. Too few bits are equal.',
  )
  expect(stateOfUpdate({ state: 'failed', error })).toEqual({ word: 'rejected', tone: 'harm' })
})

test('what starts next is told with what it waits for', () => {
  const triggers = { enabled: true, dry_run: false, next_domains: ['code'], waits_for: null }
  const next = (changes: object, isRunning = false) => nextSentence({ ...triggers, ...changes }, isRunning)
  expect(next({})).toBe('code is due; the update starts within a minute.')
  expect(next({ waits_for: 'The cooldown ends at 12:00' })).toBe('code is due. The cooldown ends at 12:00.')
  expect(next({ next_domains: [] })).toBe('No domain is due.')
  expect(next({}, true)).toBe('The next one waits for it.')
  expect(next({ enabled: false })).toContain('by hand only')
})

test('a canary tells whom it answers and what was seen so far', () => {
  const trial = { mask_version: 15, share: 0.1, since: '', update_id: null, evidence: null }
  expect(plain(canarySentence(trial, 14))).toBe(
    'Mask 15 answers 10 % of the conversations beside mask 14. Nothing was scored under both masks yet.',
  )
  const evidence = { requests: 400, tokens: 11_300, gap: -0.0067, lower: -0.044, upper: 0.0307 }
  expect(plain(canarySentence({ ...trial, evidence }, 14))).toContain(
    'So far its perplexity differs by −0.668 %, between −4.30 % and +3.12 %, over 11.3k tokens.',
  )
})

test('a figure that was not judged is neither within its limit nor beyond it', () => {
  const wordOf = (name: string, changes: Partial<DecisionFigure> = {}) =>
    verdictOfFigure(figure(name, { limit: null, passed: true, ...changes })).word
  const slow = { value: 0.9 }
  expect(wordOf('slow first tokens', slow)).toBe('not judged')
  expect(wordOf('holdouts left out', { value: 3 })).toBe('not judged')
  expect(wordOf('slow first tokens', { ...slow, limit: 0.95 })).toBe('within')
  expect(wordOf('slow first tokens', { ...slow, limit: 0.7, passed: false })).toBe('beyond')
  expect(wordOf('finite loss')).toBe('within')
})
