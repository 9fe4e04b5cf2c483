/** The course of a trial ends where its verdict does, and runs and ended trials are told apart. */
import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import type { TrialCourses } from '@copal/shared/wire/admin-trial-course.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { insertDecision } from '../../../../gateway/src/storage/db/queries/decision-queries.ts'
import { advanceUpdate } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { judgeTrial } from '../../../../gateway/src/adaptation/trials/judge-trial.ts'
import { trialLimits } from '../../../../gateway/src/adaptation/trials/trial-judge.ts'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { SimulatedNode, testDeps } from '../../support/doubles/simulated-node.ts'
import { get } from '../../support/requests/gateway-requests.ts'
import { seedMasks, seedScores, seedUpdate } from '../../support/state/seed-masks.ts'

const db = openDatabase(env.DB)

async function trialsOf(id: string): Promise<TrialCourses['trials']> {
  const response = await get(`/admin/updates/${id}/trials`)
  return (await response.json<TrialCourses>()).trials
}

test('a running canary has a course whose last point is its evidence', async () => {
  const node = new SimulatedNode('course-1', 'course')
  await node.beat()
  await seedMasks('course', [1, 2])
  const id = await seedUpdate('course', 2, { parentVersion: 1 })
  expect(await trialsOf(id)).toEqual([])
  await advanceUpdate(testDeps(), id)
  await seedScores('course', {
    maskVersion: 1,
    shadowVersion: 2,
    gap: 0.02,
    count: 400,
    atMs: Date.now() + 1_000,
  })
  const [course, ...others] = await trialsOf(id)
  expect(others).toEqual([])
  expect(course).toMatchObject({ kind: 'canary', mask_version: 2, beside_version: 1, running: true })
  expect(course?.points.length).toBeLessThanOrEqual(100)
  const verdict = await judgeTrial(
    db,
    { model: 'course', judged: 2, reference: 1, active: 'reference', sinceMs: 0 },
    trialLimits(PRESETS.local, 1),
  )
  const [gap] = verdict.figures
  const near = (value: number | null | undefined) => expect.closeTo(value ?? Number.NaN, 9) as number
  expect(course?.points.at(-1)).toMatchObject({
    requests: 400,
    tokens: 16_000,
    gap: near(gap?.value),
    lower: near(gap?.lower),
    upper: near(gap?.upper),
  })
})

test('an ended watch has a course until its end, against the limit that it was decided by', async () => {
  await new SimulatedNode('course-2', 'course-end').beat()
  await seedMasks('course-end', [1, 2], { active: 2, promoted: [1, 2] })
  const id = await seedUpdate('course-end', 2, {
    parentVersion: 1,
    state: 'promoted',
    finishedAt: Date.now(),
  })
  const scores = { maskVersion: 2, shadowVersion: 1, gap: -0.1, count: 30 }
  await seedScores('course-end', scores)
  // These scores are of a shadow that an operator started later.
  await seedScores('course-end', { ...scores, atMs: Date.now() + 60_000 })
  const loss = { name: 'loss', domain: null, holdout: null, tokens: 1, value: 0, lower: 0, upper: 0 }
  await insertDecision(db, {
    model: 'course-end',
    updateId: id,
    maskVersion: 2,
    kind: 'watch',
    verdict: 'done',
    reason: 'No harm.',
    figures: [{ ...loss, limit: 0.0625, passed: true }],
    actor: 'copal',
    createdAt: Date.now(),
  })
  const [course] = await trialsOf(id)
  expect(course).toMatchObject({ kind: 'watch', running: false, limit: 0.0625, min_tokens: null })
  expect(course?.points.at(-1)).toMatchObject({ requests: 30 })
  expect(course?.points.at(-1)?.gap).toBeCloseTo(0.1)
})
