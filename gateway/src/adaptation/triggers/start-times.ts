import { DAY_MS } from '@copal/shared/day.ts'
import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import { UPDATE_STATES } from '@copal/shared/wire/update-states.ts'
import { endOfQuiet } from '../policy/quiet-hours.ts'
import type { PastUpdate } from './domain-history.ts'

const MINUTE_MS = 60_000

/** The facts by which an update may start. */
export interface StartInput {
  nowMs: number
  policy: AdaptationPolicy['triggers']
  /** The updates of the model, newest first. */
  updates: readonly PastUpdate[]
  /** Times at which a dry run would have started an update, newest first. */
  dryRuns: readonly number[]
  /** Why no update could succeed now; undefined if nothing is known. */
  obstacle: string | undefined
}

/** When an update may start. */
export interface StartTime {
  /** Why none may start now; undefined if one may. */
  waitsFor: string | undefined
  /** When one may; undefined if that is not known. */
  atMs: number | undefined
  /** Updates that triggers started in the last 24 hours, or would have started. */
  startedToday: number
}

/** Returns when the next update may start by itself. A pure function. */
export function nextStart({ nowMs, policy, updates, dryRuns, obstacle }: StartInput): StartTime {
  const automatic = updates.filter(({ trigger }) => trigger !== 'manual').map(({ createdAt }) => createdAt)
  const starts = (policy.dry_run ? [...automatic, ...dryRuns] : automatic)
    .filter((atMs) => atMs > nowMs - DAY_MS)
    .toSorted((a, b) => b - a)
  const startedToday = starts.length
  if (!policy.enabled) {
    return { waitsFor: "triggers are off ('triggers.enabled' is false)", atMs: undefined, startedToday }
  }
  const running = updates.find(({ finishedAt }) => finishedAt === null)
  if (running) {
    return {
      waitsFor: `update ${running.id} is ${UPDATE_STATES[running.state]}`,
      atMs: undefined,
      startedToday,
    }
  }
  const limits: { atMs: number; reason: string }[] = []
  const ends = updates.flatMap(({ finishedAt }) => finishedAt ?? [])
  const lastEndMs = Math.max(0, ...ends, ...(policy.dry_run ? dryRuns : []))
  limits.push({
    atMs: lastEndMs + policy.cooldown_minutes * MINUTE_MS,
    reason: `${policy.cooldown_minutes === 1 ? '1 minute' : `${policy.cooldown_minutes} minutes`} must pass after the last update`,
  })
  const oldest = starts[policy.max_per_day - 1]
  if (oldest !== undefined) {
    limits.push({
      atMs: oldest + DAY_MS,
      reason: `${startedToday} updates started in the last 24 hours, and ${policy.max_per_day} may`,
    })
  }
  const [last] = limits.filter(({ atMs }) => atMs > nowMs).toSorted((a, b) => b.atMs - a.atMs)
  const atMs = endOfQuiet(policy.quiet_hours, last?.atMs ?? nowMs)
  const isQuiet = endOfQuiet(policy.quiet_hours, nowMs) > nowMs
  const waitsFor = last?.reason ?? (isQuiet ? `${policy.quiet_hours} UTC are quiet hours` : obstacle)
  // An obstacle may go at any time.
  return { waitsFor, atMs: waitsFor === obstacle && obstacle !== undefined ? undefined : atMs, startedToday }
}
