import type { Log } from '../../platform/log.ts'
import type { WeightSetName } from './swap-plan.ts'

/** Bounds how long trials wait for memory that is reserved for other work. */
export interface TrialWait {
  /**
   * Returns those that may still wait. One that has waited too long is logged once.
   *
   * @param waiting all trials that wait now
   */
  update(waiting: readonly WeightSetName[]): WeightSetName[]
}

/** Creates the bound, for trials that wait from now on. */
export function createTrialWait(deps: {
  maxWaitMs: number
  log: Pick<Log, 'warn'>
  nowMs: () => number
}): TrialWait {
  /** By version. */
  const waits = new Map<number, { sinceMs: number; isOverdue: boolean }>()

  function isAllowed({ version }: WeightSetName): boolean {
    const nowMs = deps.nowMs()
    const wait = waits.get(version) ?? { sinceMs: nowMs, isOverdue: false }
    waits.set(version, wait)
    if (!wait.isOverdue && nowMs - wait.sinceMs >= deps.maxWaitMs) {
      wait.isOverdue = true
      deps.log.warn(
        'a mask on trial has waited too long for memory of the GPU that an update takes: it counts as one that does not fit, and ' +
          'is loaded when the update gives the memory back',
        { version, waitedMinutes: Math.round((nowMs - wait.sinceMs) / 60_000) },
      )
    }
    return !wait.isOverdue
  }

  return {
    update(waiting) {
      for (const version of waits.keys())
        if (!waiting.some((trial) => trial.version === version)) waits.delete(version)
      return waiting.filter(isAllowed)
    },
  }
}
