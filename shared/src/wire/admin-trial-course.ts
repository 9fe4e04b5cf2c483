/** The evidence of an update's trials over time, as the admin API shows it. Public, so snake_case. */
import { z } from 'zod'
import { count } from './identifiers.ts'

const nats = z.number().describe('Nats a prompt token.')

/** The evidence after some scored requests. */
const coursePoint = z.object({
  at: z.iso.datetime(),
  requests: count,
  tokens: count,
  gap: nats,
  lower: nats.describe('Lower confidence bound of the gap; all bounds of a course hold at once.'),
  upper: nats,
})
/** The evidence after some scored requests. */
export type CoursePoint = z.output<typeof coursePoint>

/** The course of one trial: the gap between the loss under the mask and under the other one, over all traffic. */
const trialCourse = z.object({
  kind: z.enum(['canary', 'watch']),
  mask_version: count,
  beside_version: count.describe('The mask that it is compared with; 0 is dense.'),
  running: z.boolean(),
  limit: nats.describe(
    'The mask is rolled back when `lower` exceeds it, and proven when `upper` is below it.',
  ),
  min_tokens: count
    .nullable()
    .describe('Tokens to score before a mask that is proven is promoted; null for a watch.'),
  points: z.array(coursePoint).describe('At most 100, oldest first; those before are left out evenly.'),
})
/** The course of one trial. */
export type TrialCourse = z.output<typeof trialCourse>

/** Response of `GET /admin/updates/:id/trials`. Scores are kept for 30 days; after that the courses have no points. */
export const trialCourses = z.object({ update: z.string(), trials: z.array(trialCourse) })
/** A response of `GET /admin/updates/:id/trials`. */
export type TrialCourses = z.output<typeof trialCourses>
