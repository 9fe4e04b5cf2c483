import { expect, test } from 'vitest'
import type { DecisionEntry } from '@copal/shared/wire/admin-decisions.ts'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import type { UpdateEntry, UpdateJob, UpdateState } from '@copal/shared/wire/admin.ts'
import {
  expectedTrials,
  stepProgress,
  stepsLeftOut,
  stepsOf,
  type StepContext,
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

function summary(update: UpdateEntry, nowMinute: number, context: StepContext = {}): string[] {
  return stepsOf(update, START + nowMinute * MINUTE_MS, context)
    .filter(({ state }) => state !== 'skipped' && state !== 'unreached')
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

test('steps behind a failed one were not reached, and those before it that are missing were left out', () => {
  const gate = updateOf({
    state: 'failed',
    error: { code: 'gate_failed', message: '' },
    finished_at: at(20),
    jobs: [jobOf('calibrate', 1), jobOf('evaluate', 12)],
    decisions: [decisionOf('gate', 'failed', 20)],
  })
  const statesOf = (update: UpdateEntry) => stepsOf(update, START).map(({ state }) => state)
  const [done, failed, skipped, unreached] = ['done', 'failed', 'skipped', 'unreached']
  expect(statesOf(gate)).toEqual([done, done, failed, unreached, unreached, unreached, unreached])
  const canary = updateOf({
    ...gate,
    state: 'rolled_back',
    error: null,
    decisions: [decisionOf('gate', 'passed', 20), decisionOf('canary', 'failed', 30)],
  })
  expect(statesOf(canary)).toEqual([done, done, done, skipped, failed, unreached, unreached])
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

test('an update that was cancelled shows the step in which it was', () => {
  const calibrated = ['collect done 1', 'calibrate done 11']
  const jobs = [jobOf('calibrate', 1), jobOf('evaluate', 12)]
  const passed = decisionOf('gate', 'passed', 20)
  const confirmed = decisionOf('confirm', 'passed', 22)
  const cancelledIn = (state: UpdateState, changes: Partial<UpdateEntry>) =>
    summary(
      updateOf({ state: 'cancelled', ended_in: state, mask_version: 14, finished_at: at(30), ...changes }),
      500,
    )
  expect(cancelledIn('collecting', {})).toEqual(['collect cancelled 30'])
  expect(cancelledIn('calibrating', { jobs: jobs.slice(0, 1) })).toEqual([
    'collect done 1',
    'calibrate cancelled 29',
  ])
  expect(cancelledIn('evaluating', { jobs })).toEqual([...calibrated, 'gate cancelled 18'])
  const gated = [...calibrated, 'gate done 8 (passed)']
  expect(cancelledIn('confirming', { jobs, decisions: [passed] })).toEqual([...gated, 'confirm cancelled 10'])
  expect(cancelledIn('canary', { jobs, decisions: [passed] })).toEqual([...gated, 'canary cancelled 10'])
  expect(cancelledIn('promoting', { jobs, decisions: [passed, confirmed] })).toEqual([
    ...gated,
    'confirm done 2',
    'promote cancelled 8',
  ])
})

test('an update that ended before the gateway noted where shows its last known step', () => {
  expect(summary(updateOf({ state: 'cancelled', finished_at: at(2) }), 500)).toEqual(['collect cancelled 2'])
  const failed = updateOf({ state: 'failed', finished_at: at(9), jobs: [jobOf('calibrate', 1)] })
  expect(summary(failed, 500)).toEqual(['collect done 1', 'calibrate failed 8'])
})

test('a mask that the confirmation rejected failed there, as one did whose job failed', () => {
  const failed = updateOf({
    state: 'failed',
    ended_in: 'confirming',
    mask_version: 14,
    finished_at: at(30),
    jobs: [jobOf('calibrate', 1), jobOf('evaluate', 12), jobOf('calibrate', 20)],
    decisions: [decisionOf('gate', 'passed', 20)],
  })
  expect(summary(failed, 500).at(-1)).toBe('confirm failed 10')
  const decisions = [...(failed.decisions ?? []), decisionOf('confirm', 'failed', 30)]
  expect(summary({ ...failed, decisions }, 500).slice(-2)).toEqual([
    'gate done 8 (passed)',
    'confirm failed 10 (failed)',
  ])
})

test('a watched mask has its update in the watch', () => {
  const update = updateOf({
    state: 'promoted',
    mask_version: 14,
    finished_at: at(30),
    jobs: [jobOf('calibrate', 1), jobOf('evaluate', 12)],
    decisions: [decisionOf('gate', 'passed', 20), decisionOf('promote', 'done', 30)],
  })
  expect(summary(update, 40, { isWatched: true })).toContain('watch running 10')
})

test('the time left is that of the running step at the pace so far', () => {
  const jobs = [jobOf('calibrate', 1, { state: 'running', progress: 0.25 })]
  const step = stepProgress(updateOf({ jobs }), START + 11 * MINUTE_MS)
  expect(step).toEqual({ progress: 0.25, secondsLeft: expect.closeTo(30 * 60) })
  expect(stepProgress(updateOf({ jobs: [] }), START)).toBeUndefined()
})

test('the progress of the gate is that of all its evaluations, those that wait too, and not of an earlier candidate', () => {
  const jobs = [
    jobOf('calibrate', 1),
    jobOf('evaluate', 5),
    jobOf('calibrate', 7),
    jobOf('evaluate', 9),
    jobOf('evaluate', 9, { state: 'running', progress: 0.2, started_at: at(12) }),
    jobOf('evaluate', 9, { state: 'queued', progress: 0, started_at: null }),
  ]
  const update = updateOf({
    state: 'evaluating',
    candidate: 2,
    jobs,
    decisions: [decisionOf('gate', 'retried', 6)],
  })
  const gate = { progress: expect.closeTo(0.4), secondsLeft: expect.closeTo(7.5 * 60) }
  expect(stepProgress(update, START + 14 * MINUTE_MS)).toEqual(gate)
  const failed = jobOf('evaluate', 9, { state: 'failed', progress: 0, started_at: at(8) })
  expect(stepProgress({ ...update, jobs: [...jobs, failed] }, START + 14 * MINUTE_MS)).toEqual(gate)
})

test('the selection of a confirmation is half of it, so that the bar does not fall when an evaluation follows', () => {
  const confirming = (...jobs: UpdateJob[]) =>
    updateOf({
      state: 'confirming',
      jobs: [jobOf('calibrate', 1), jobOf('evaluate', 5), ...jobs],
      decisions: [decisionOf('gate', 'passed', 9)],
    })
  const selection = jobOf('calibrate', 10, { state: 'running', progress: 0.8 })
  expect(stepProgress(confirming(selection), START + 14 * MINUTE_MS)).toEqual({
    progress: 0.4,
    secondsLeft: expect.closeTo(60),
  })
  const evaluation = jobOf('evaluate', 15, { state: 'running', progress: 0.5 })
  expect(stepProgress(confirming(jobOf('calibrate', 10), evaluation), START + 16 * MINUTE_MS)).toEqual({
    progress: 0.75,
    secondsLeft: expect.closeTo(60),
  })
})

test('steps that the policy does not ask for are left out from the beginning, as the watch after dense weights', () => {
  const update = updateOf({ jobs: [jobOf('calibrate', 1, { state: 'running' })], parent_version: 13 })
  const node = { model: update.model, alive: true, draining: false }
  const { production, local } = PRESETS
  expect([...stepsLeftOut(update, production, [node, node])]).toEqual([])
  // A node that is silent selects nothing, nor does one that drains or serves another model.
  const others = [
    { ...node, alive: false },
    { ...node, draining: true },
    { ...node, model: 'other' },
  ]
  expect([...stepsLeftOut(update, local, [node, ...others])]).toEqual(['confirm', 'canary'])
  expect([...stepsLeftOut({ ...update, parent_version: 0 }, production, [node, node])]).toEqual(['watch'])
  expect([...stepsLeftOut({ ...update, own_domain: 'legal' }, production, [node, node])]).toEqual([
    'canary',
    'watch',
  ])
  expect(summary(update, 5, { leftOut: stepsLeftOut(update, local, [node]) })).toEqual([
    'collect done 1',
    'calibrate running 4',
    'gate ahead',
    'promote ahead',
    'watch ahead',
  ])
})

test('an imported mask, which no node selected, begins with the gate and is not confirmed', () => {
  const update = updateOf({
    state: 'evaluating',
    mask_version: 15,
    parent_version: 13,
    jobs: [jobOf('evaluate', 1), jobOf('evaluate', 1)],
  })
  const node = { model: update.model, alive: true, draining: false }
  const leftOut = stepsLeftOut(update, PRESETS.production, [node, node])
  expect([...leftOut]).toEqual(['confirm'])
  expect(stepsLeftOut({ ...update, jobs: [] }, PRESETS.production, [node, node])).toEqual(leftOut)
  // An update of a list has no jobs, so nothing is known of them.
  const { jobs: _, ...listed } = update
  expect([...stepsLeftOut(listed, PRESETS.production, [node, node])]).toEqual([])
  expect(summary(update, 5, { leftOut })).toEqual([
    'collect done 1',
    'gate running 4',
    'canary ahead',
    'promote ahead',
    'watch ahead',
  ])
})

test('the mask of a single domain was calibrated and judged too, but is not watched, and its removal is no step', () => {
  const update = updateOf({
    state: 'promoted',
    own_domain: 'legal',
    parent_version: 13,
    finished_at: at(21),
    jobs: [jobOf('calibrate', 1), jobOf('evaluate', 12)],
    decisions: [
      decisionOf('own_mask', 'passed', 20),
      decisionOf('promote', 'done', 21),
      decisionOf('own_mask', 'done', 50),
    ],
  })
  expect(summary(update, 60)).toEqual([
    'collect done 1',
    'calibrate done 11',
    'gate done 8',
    'promote done 1',
  ])
})

test('a forced mask is not watched', () => {
  const update = updateOf({
    state: 'promoting',
    parent_version: 13,
    jobs: [jobOf('calibrate', 1), jobOf('evaluate', 12)],
    decisions: [decisionOf('gate', 'failed', 20), decisionOf('force', 'done', 25)],
  })
  const node = { model: update.model, alive: true, draining: false }
  expect([...stepsLeftOut(update, PRESETS.production, [node, node])]).toEqual(['watch'])
  const decisions = [...(update.decisions ?? []), decisionOf('promote', 'done', 30)]
  const promoted = updateOf({ ...update, state: 'promoted', finished_at: at(30), decisions })
  expect(summary(promoted, 40).at(-1)).toBe('promote done 5')
  // An operator who rolls it back later gives no verdict on a step.
  const rolledBack = updateOf({ ...promoted, state: 'rolled_back' })
  expect(summary(rolledBack, 40)).toEqual(summary(promoted, 40))
})

test('the first mask, which is not watched, has no watch without a verdict', () => {
  const update = updateOf({
    state: 'promoted',
    parent_version: 0,
    finished_at: at(30),
    jobs: [jobOf('calibrate', 1), jobOf('evaluate', 12)],
    decisions: [decisionOf('gate', 'passed', 20), decisionOf('promote', 'done', 30)],
  })
  expect(summary(update, 40).at(-1)).toBe('promote done 10')
})

test('trials that ran or run have their places before their scores are known', () => {
  expect(expectedTrials(updateOf({ state: 'canary' }), false)).toEqual(['canary'])
  const decisions = [decisionOf('canary', 'passed', 1)]
  expect(expectedTrials(updateOf({ state: 'promoted', decisions }), true)).toEqual(['canary', 'watch'])
  expect(expectedTrials(updateOf({ state: 'failed' }), false)).toEqual([])
})
