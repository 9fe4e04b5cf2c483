import type { Deps } from '../contracts/bindings.ts'
import { waitAtMost } from '../runtime/wait-at-most.ts'
import { createCallBudget, EVENT_CALLS, untilUsedUp } from './call-budget.ts'
import { meterDeps } from './metered-deps.ts'

/** How long a task may go on after the response of its heartbeat: Cloudflare ends it then. */
const MAX_TASK_MS = 30_000
/** Calls that the tasks of a heartbeat leave for its response: the state of the model, the nodes of the fleet, the jobs of the node. */
const RESPONSE_CALLS = 50

/**
 * Runs a task of a heartbeat, unless an earlier heartbeat still does. The response does not wait long for it: the task then goes on
 * after it.
 *
 * @param name for the log; of one name one task runs at a time
 * @param task called with dependencies that take from the calls of the heartbeat
 * @returns false if an earlier heartbeat still runs it
 * @throws the error of the task if it fails while the response waits; a later one is logged
 */
export type RunTask = (name: string, task: (deps: Deps) => Promise<void>) => Promise<boolean>

/** The tasks that the heartbeats of this isolate run. */
export class HeartbeatTasks {
  readonly #beganAtMs = new Map<string, number>()

  /**
   * Returns the function that runs the tasks of one heartbeat. They share its calls.
   *
   * @param waitMs how long the response waits, for all of them together
   */
  of(deps: Deps, waitMs: number): RunTask {
    const metered = meterDeps(deps, createCallBudget(EVENT_CALLS - RESPONSE_CALLS))
    const untilMs = Date.now() + waitMs
    return async (name, task) => {
      const nowMs = Date.now()
      if (nowMs - (this.#beganAtMs.get(name) ?? -Infinity) < MAX_TASK_MS) return false
      this.#beganAtMs.set(name, nowMs)
      const running = untilUsedUp(
        name,
        task(metered).finally(() => {
          if (this.#beganAtMs.get(name) === nowMs) this.#beganAtMs.delete(name)
        }),
      )
      let isAwaited = true
      const logLate = (error: unknown) => {
        if (!isAwaited) console.error(`${name} failed, and a later heartbeat tries again:`, error)
      }
      deps.waitUntil(running.catch(logLate))
      await waitAtMost(running, Math.max(0, untilMs - nowMs))
      isAwaited = false
      return true
    }
  }
}
