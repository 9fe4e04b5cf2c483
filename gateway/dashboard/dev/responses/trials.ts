import type { TrialCourse, TrialCourses } from '@copal/shared/wire/admin-trial-course.ts'
import { ageOf } from './lineage.ts'
import { ago } from './service.ts'
import { update } from './updates.ts'

/** The course of a canary; of a mask that was rolled back, the watch that proved harm too. */
export function trials(id: string): TrialCourses | undefined {
  const found = update(id)
  if (!found || found.mask_version === null || found.state === 'failed')
    return found && { update: id, trials: [] }
  const age = ageOf(found.mask_version)
  const base = { mask_version: found.mask_version, beside_version: found.parent_version ?? 0, limit: 0.00995 }
  const canary: TrialCourse = {
    ...base,
    kind: 'canary',
    running: found.state === 'canary',
    min_tokens: 20_000,
    points: course(found.state === 'canary' ? 420 : 1_412, -0.006, age),
  }
  const watch: TrialCourse = {
    ...base,
    kind: 'watch',
    running: false,
    min_tokens: null,
    points: course(2_230, found.state === 'rolled_back' ? 0.035 : -0.007, age - 36),
  }
  return { update: id, trials: found.state === 'canary' ? [canary] : [canary, watch] }
}

function course(requests: number, gap: number, age: number): TrialCourse['points'] {
  return Array.from({ length: 60 }, (_, index) => {
    const scored = Math.max(1, Math.round(requests * ((index + 1) / 60) ** 2))
    const half = Math.min(0.5, 0.62 / Math.sqrt(scored) + 3 / scored)
    const value = gap + (0.06 * Math.sin(index * 1.7)) / Math.sqrt(scored)
    return {
      at: ago(age - (index + 1) * 0.6),
      requests: scored,
      tokens: scored * 27,
      gap: value,
      lower: Math.max(-0.5, value - half),
      upper: Math.min(0.5, value + half),
    }
  })
}
