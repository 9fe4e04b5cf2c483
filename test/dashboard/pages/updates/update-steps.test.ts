import { expect, test } from 'vitest'
import type { DecisionEntry } from '@copal/shared/wire/admin-decisions.ts'
import type { UpdateEntry, UpdateJob } from '@copal/shared/wire/admin.ts'
import {
  expectedTrials,
  jobSecondsLeft,
  stepsOf,
} from '../../../../gateway/dashboard/src/pages/updates/update-steps.ts'
import { updateOf as anyUpdate } from '../../../support/dashboard/reports.ts'

const START = Date.parse('2026-11-28T02:00:00.000Z')
const MINUTE_MS = 60_000
const at = (minutes: number) => new Date(START + minutes * MINUTE_MS).toISOString()

const updateOf = (changes: Partial<UpdateEntry>) =>
  anyUpdate({ created_at: at(0), jobs: [], decisions: [], ...changes })

function jobOf(kind: UpdateJob['kind'], createdMinute: number, changes: Partial<UpdateJob> = {}): UpdateJob {
  return {
    kind,
    state: 'done',
    progress: 1,
    node: 'node-1',
    created_at: at(createdMinute),
    started_at: at(createdMinute),
    reported_at: at(createdMinute + 1),
    ...changes,
  }
}

function decisionOf(
  kind: DecisionEntry['kind'],
  verdict: DecisionEntry['verdict'],
  minute: number,
): DecisionEntry {
  return { kind, verdict, reason: '', mask_version: 14, actor: 'copal', created_at: at(minute), figures: [] }
}

function summary(update: UpdateEntry, nowMinute: number, watching = false): string[] {
  return stepsOf(update, watching, START + nowMinute * MINUTE_MS)
    .filter(({ state }) => state !== 'skipped')
    .map(({ name, state, durationMs, note }) => {
      const minutes = durationMs === undefined ? '' : ` ${durationMs / MINUTE_MS}`
      return `${name} ${state}${minutes}${note === undefined ? '' : ` (${note})`}`
    })
}

test('a calibrating update has collected, calibrates, and has the rest ahead', () => {
  const update = updateOf({ jobs: [jobOf('calibrate', 1, { state: 'running', progress: 0.5 })] })
  expect(summary(update, 5)).toEqual([
    'collect done 1',
    'calibrate running 4',
    'gate ahead',
    'confirm ahead',
    'canary ahead',
    'promote ahead',
    'watch ahead',
  ])
})

test('times of several candidates add up, and the gate names the last one', () => {
  const update = updateOf({
    state: 'promoted',
    candidate: 2,
    mask_version: 15,
    finished_at: at(60),
    jobs: [jobOf('calibrate', 1), jobOf('evaluate', 11), jobOf('calibrate', 14), jobOf('evaluate', 16)],
    decisions: [
      decisionOf('gate', 'retried', 13),
      decisionOf('gate', 'passed', 19),
      decisionOf('canary', 'passed', 50),
      decisionOf('promote', 'done', 60),
      decisionOf('watch', 'done', 120),
    ],
  })
  expect(summary(update, 500)).toEqual([
    'collect done 1',
    'calibrate done 13 (candidate 2)',
    'gate done 5 (passed, candidate 2)',
    'canary done 31',
    'promote done 10',
    'watch done 60',
  ])
})

test('a rejected update failed in the gate, and later steps were not reached', () => {
  const update = updateOf({
    state: 'failed',
    error: { code: 'gate_failed', message: '' },
    mask_version: 14,
    finished_at: at(20),
    jobs: [jobOf('calibrate', 1), jobOf('evaluate', 12)],
    decisions: [decisionOf('gate', 'failed', 20)],
  })
  expect(summary(update, 500)).toEqual(['collect done 1', 'calibrate done 11', 'gate failed 8 (rejected)'])
})

test('a mask that was rolled back while it was watched failed in the watch', () => {
  const update = updateOf({
    state: 'rolled_back',
    mask_version: 14,
    finished_at: at(30),
    jobs: [jobOf('calibrate', 1), jobOf('evaluate', 12)],
    decisions: [
      decisionOf('gate', 'passed', 20),
      decisionOf('promote', 'done', 30),
      decisionOf('watch', 'failed', 45),
    ],
  })
  expect(summary(update, 500)).toContain('watch failed 15 (rolled back)')
})

test('a mask that an operator rolled back while it was watched has no verdict of the watch', () => {
  const update = updateOf({
    state: 'rolled_back',
    mask_version: 14,
    finished_at: at(30),
    jobs: [jobOf('calibrate', 1), jobOf('evaluate', 12)],
    decisions: [
      decisionOf('gate', 'passed', 20),
      decisionOf('promote', 'done', 30),
      decisionOf('roll_back', 'done', 31),
    ],
  })
  expect(summary(update, 500).at(-1)).toBe('watch ended')
})

test('an update cancelled while it collected failed there', () => {
  const update = updateOf({ state: 'cancelled', finished_at: at(2) })
  expect(summary(update, 500)).toEqual(['collect failed 2'])
})

test('a watched mask has its update in the watch', () => {
  const update = updateOf({
    state: 'promoted',
    mask_version: 14,
    finished_at: at(30),
    jobs: [jobOf('calibrate', 1), jobOf('evaluate', 12)],
    decisions: [decisionOf('gate', 'passed', 20), decisionOf('promote', 'done', 30)],
  })
  expect(summary(update, 40, true)).toContain('watch running 10')
})

test('the time left is that of the running job at the pace so far', () => {
  const jobs = [jobOf('calibrate', 1, { state: 'running', progress: 0.25 })]
  expect(jobSecondsLeft(updateOf({ jobs }), START + 11 * MINUTE_MS)).toBeCloseTo(30 * 60)
  expect(jobSecondsLeft(updateOf({ jobs: [] }), START)).toBeUndefined()
})

test('trials that ran or run have their places before their scores are known', () => {
  expect(expectedTrials(updateOf({ state: 'canary' }), false)).toEqual(['canary'])
  const decisions = [decisionOf('canary', 'passed', 1)]
  expect(expectedTrials(updateOf({ state: 'promoted', decisions }), true)).toEqual(['canary', 'watch'])
  expect(expectedTrials(updateOf({ state: 'failed' }), false)).toEqual([])
})
