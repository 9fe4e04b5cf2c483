import type { WeightSet } from '../contract/backend.ts'

/** What lanes ask of the engine. */
export interface LaneDeps {
  /** Begins the next step on the weights; undefined when there is nothing to do. */
  step: (weights: WeightSet) => Promise<void> | undefined
  /** The weights are gone, and their lane with them; with a cause when nobody released them. */
  lost: (weights: WeightSet, cause: Error | undefined) => void
}

/** A lane for each weight set, in which one step runs at a time; lanes run side by side. */
export interface Lanes {
  /** Gives the weights a lane, if they have none. */
  open(weights: WeightSet): void
  /** Lets every idle lane look for work, after the caller's own changes are complete. */
  wake(): void
}

/** No lane. */
export function createLanes({ step, lost }: LaneDeps): Lanes {
  const lanes = new Map<WeightSet, { busy: boolean }>()

  async function run(weights: WeightSet, lane: { busy: boolean }): Promise<void> {
    while (lanes.get(weights) === lane) {
      const running = step(weights)
      if (!running) break
      await running
      wake()
    }
    lane.busy = false
  }

  function wake(): void {
    for (const [weights, lane] of lanes) {
      if (lane.busy) continue
      lane.busy = true
      queueMicrotask(() => void run(weights, lane))
    }
  }

  return {
    wake,
    open(weights) {
      if (lanes.has(weights)) return
      lanes.set(weights, { busy: false })
      void weights.ended.then((cause) => {
        lanes.delete(weights)
        lost(weights, cause)
      })
    },
  }
}
