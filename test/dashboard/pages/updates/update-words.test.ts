import { expect, test } from 'vitest'
import type { DecisionEntry } from '@copal/shared/wire/admin-decisions.ts'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import {
  endedSentence,
  nextSentence,
  runningSentence,
  stateOfUpdate,
} from '../../../../gateway/dashboard/src/pages/updates/update-words.ts'

/** Numbers keep their units by a narrow space that does not break. */
const plain = (text: string) => text.replaceAll('\u202F', ' ')

const update = {
  domains: ['speech', 'code'],
  mask_version: 14,
  parent_version: 13,
  own_domain: null,
  error: null,
  job: null,
} as UpdateEntry
const decision = { verdict: 'failed', kind: 'watch', figures: [] } as unknown as DecisionEntry

test('a running update tells its step, its node and the time left', () => {
  const job = { state: 'running', progress: 0.434, message: '', node: 'node-2', attempt: 1 } as const
  expect(plain(runningSentence({ ...update, state: 'calibrating', job }, 610))).toBe(
    'The update of speech and code is calibrating on node-2: 43 % of this step, about 10 min left.',
  )
  expect(runningSentence({ ...update, state: 'canary' }, undefined)).toBe(
    'The update of speech and code is in the canary of mask 14.',
  )
})

test('a promoted update tells whether it helped', () => {
  const figure = { name: 'perplexity / parent, weighted', value: 0.958, upper: 0.97 }
  const gate = { kind: 'gate', verdict: 'passed', figures: [figure] } as unknown as DecisionEntry
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
    'Mask 14 was rejected by the gate, so mask 13 stayed in use.',
  )
  expect(stateOfUpdate({ state: 'failed', error })).toEqual({ word: 'rejected', tone: 'harm' })
})

test('what starts next is told with what it waits for', () => {
  const triggers = { enabled: true, dry_run: false, running: null, next_domains: ['code'], waits_for: null }
  const next = (changes: object) =>
    nextSentence({ ...triggers, ...changes } as Parameters<typeof nextSentence>[0])
  expect(next({})).toBe('code is due; the update starts within a minute.')
  expect(next({ waits_for: 'The cooldown ends at 12:00' })).toBe('code is due. The cooldown ends at 12:00.')
  expect(next({ next_domains: [] })).toBe('No domain is due.')
  expect(next({ enabled: false })).toContain('by hand only')
})
