import { createCallBudget, untilUsedUp } from '../../calls/call-budget.ts'
import { meterDeps } from '../../calls/metered-deps.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { waitAtMost } from '../../runtime/wait-at-most.ts'
import { advanceUpdates } from './advance-update.ts'

/** How long a step may go on after the response of its heartbeat: Cloudflare ends it then. */
const MAX_STEP_MS = 30_000

/** The steps of updates that the heartbeats of this isolate run, one of a model at a time. */
export class HeartbeatSteps {
  readonly #beganAtMs = new Map<string, number>()

  /**
   * Advances the updates of a model, unless an earlier heartbeat still does. It waits at most `waitMs` milliseconds for the step,
   * which then goes on after the response.
   *
   * @throws the error of the step, if it fails while this waits; a later one is logged
   */
  async run(deps: Deps, model: string, waitMs: number): Promise<void> {
    const nowMs = Date.now()
    if (nowMs - (this.#beganAtMs.get(model) ?? -Infinity) < MAX_STEP_MS) return
    this.#beganAtMs.set(model, nowMs)
    const metered = { ...meterDeps(deps, createCallBudget()), isHeartbeat: true }
    const step = untilUsedUp(
      `The step of the update of '${model}'`,
      advanceUpdates(metered, model).finally(() => {
        if (this.#beganAtMs.get(model) === nowMs) this.#beganAtMs.delete(model)
      }),
    )
    let isAwaited = true
    const logLate = (error: unknown) => {
      if (!isAwaited) console.error(`The step of the update of '${model}' failed and will be retried:`, error)
    }
    deps.waitUntil(step.catch(logLate))
    await waitAtMost(step, waitMs)
    isAwaited = false
  }
}
