import type { TrialCourse, TrialCourses } from '@copal/shared/wire/admin-trial-course.ts'
import type { CanaryReport, ShadowReport } from '@copal/shared/wire/admin-trials.ts'
import { ageOf } from './lineage.ts'
import { status } from './nodes.ts'
import { ago, DOMAINS, MODEL } from './service.ts'
import { update } from './updates.ts'

/** The course of a canary; of a mask that was rolled back, the watch that proved harm too. */
export function trials(id: string): TrialCourses | undefined {
  const found = update(id)
  if (!found || found.mask_version === null || found.state === 'failed')
    return found && { update: id, trials: [] }
  const age = ageOf(found.mask_version)
  const base = { mask_version: found.mask_version, beside_version: found.parent_version ?? 0, limit: 0.00995 }
  const canaryCourse: TrialCourse = {
    ...base,
    kind: 'canary',
    running: found.state === 'canary',
    min_tokens: 20_000,
    points: course(found.state === 'canary' ? 420 : 1_412, -0.012, age),
  }
  const watchCourse: TrialCourse = {
    ...base,
    kind: 'watch',
    running: false,
    min_tokens: null,
    points: course(2_230, found.state === 'rolled_back' ? 0.035 : -0.007, age - 36),
  }
  return { update: id, trials: found.state === 'canary' ? [canaryCourse] : [canaryCourse, watchCourse] }
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

/** The canary beside the active mask. */
export function canary(): CanaryReport {
  return {
    model: MODEL,
    active_version: 14,
    canary: status(false).models[0]?.canary ?? null,
    nodes: { ready: 3, alive: 3, errors: [] },
    versions: [14, 15].map((version) => ({
      mask_version: version,
      requests: version === 14 ? 4_210 : 466,
      failed: version === 14 ? 3 : 1,
      prompt_tokens: 910_000,
      completion_tokens: 320_000,
      time_to_first_token_ms: version === 14 ? 92 : 95,
      total_ms: 1_420,
      scored_tokens: version === 14 ? 61_000 : 6_700,
      nll_masked: version === 14 ? 2.151 : 2.147,
      nll_dense: 2.124,
    })),
  }
}

/** The shadow beside the active mask, which an operator started. */
export function shadow(): ShadowReport {
  return {
    model: MODEL,
    active_version: 14,
    shadow: status(false).models[0]?.shadow ?? null,
    nodes: {
      ready: 2,
      alive: 3,
      errors: [{ node: 'node-3', message: 'the weights of mask 12 do not fit beside those of mask 14.' }],
    },
    domains: DOMAINS.slice(0, 4).map(({ name, share }, index) => ({
      domain: name,
      requests: Math.round(800 * share),
      prompt: { tokens: Math.round(90_000 * share), nll_active: 2.1, nll_shadow: 2.1 + 0.012 * (index - 1) },
      answer: { tokens: Math.round(40_000 * share), nll_active: 1.4, nll_shadow: 1.42 },
    })),
  }
}
