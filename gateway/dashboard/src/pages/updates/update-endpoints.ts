import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import type { TrialCourses } from '@copal/shared/wire/admin-trial-course.ts'
import { endpoint } from '../../data/client.ts'

/** The evidence of an update's canary and watch over time. */
export const trialCourses = (id: string) =>
  endpoint<TrialCourses>(`/admin/updates/${encodeURIComponent(id)}/trials`)
/** The part of a policy about canaries. */
export type CanaryPolicy = AdaptationPolicy['canary']
