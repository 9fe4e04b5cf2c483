import type { CoursePoint } from '@copal/shared/wire/admin-trial-course.ts'
import { TrialJudge, type TrialLimits } from './trial-judge.ts'

/** Maximum points of a course: a chart has no room for more. */
const MAX_POINTS = 100

/** A request that both masks scored. */
export interface TimedScore {
  domain: string
  tokens: number
  /** Loss under the judged mask minus loss under the reference, mean nats a prompt token. */
  gap: number
  createdAtMs: number
}

/**
 * Returns how the gap over all traffic and its bounds grew with the scored requests, which come in the order of time. The
 * points are close together at the beginning, where the bounds move most, and the last one is always there.
 */
export function gapCourse(scores: readonly TimedScore[], limits: TrialLimits): CoursePoint[] {
  const judge = new TrialJudge(limits)
  const points: CoursePoint[] = []
  let last = 0
  for (const [index, score] of scores.entries()) {
    judge.addScore(score)
    const place = Math.floor(MAX_POINTS * Math.sqrt((index + 1) / scores.length))
    if (place === last) continue
    last = place
    const { value, lower, upper, tokens } = judge.gapOfAll()
    points.push({
      at: new Date(score.createdAtMs).toISOString(),
      requests: index + 1,
      tokens: tokens ?? 0,
      gap: value ?? 0,
      lower: lower ?? 0,
      upper: upper ?? 0,
    })
  }
  return points
}
