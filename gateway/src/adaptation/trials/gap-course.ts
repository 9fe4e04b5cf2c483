import type { CoursePoint } from '@copal/shared/wire/admin-trial-course.ts'
import { ConversationSums } from './conversation-sums.ts'
import { gapOfAll, toUnit, type TrialLimits } from './trial-judge.ts'

/** Maximum points of a course: a chart has no room for more. */
const MAX_POINTS = 100

/** A request that both masks scored. */
export interface TimedScore {
  conversation: string | number
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
  const conversations = new ConversationSums()
  const points: CoursePoint[] = []
  let last = 0
  let tokens = 0
  for (const [index, score] of scores.entries()) {
    conversations.add(score.conversation, toUnit(score.gap, limits.maxGap))
    tokens += score.tokens
    const place = Math.floor(MAX_POINTS * Math.sqrt((index + 1) / scores.length))
    if (place === last) continue
    last = place
    const requests = index + 1
    const { value, lower, upper } = gapOfAll(
      { ...conversations.sums(), domain: null, requests, tokens },
      limits,
    )
    points.push({
      at: new Date(score.createdAtMs).toISOString(),
      requests,
      tokens,
      gap: value ?? 0,
      lower: lower ?? 0,
      upper: upper ?? 0,
    })
  }
  return points
}
