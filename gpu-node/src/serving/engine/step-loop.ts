import type { WeightSet } from '../contract/backend.ts'

/** Callbacks into the engine. */
export interface StepLoopDeps {
  /** Begins the next step on the weight set; undefined when there is nothing to do. */
  step: (weights: WeightSet) => Promise<void> | undefined
  /** Called when the weight set has ended, and its loop with it; `cause` is set unless it was released. */
  lost: (weights: WeightSet, cause: Error | undefined) => void
}

/** One step loop per weight set. A loop runs one step at a time; loops run side by side. */
export interface StepLoops {
  /** Starts the loop of a weight set unless it has one. */
  start(weights: WeightSet): void
  /** Returns whether the weight set has a loop: it has not once it has ended. */
  has(weights: WeightSet): boolean
  /** Makes every idle loop look for work once the current task has finished. */
  wake(): void
}

/** Creates step loops for no weight set yet. */
export function createStepLoops({ step, lost }: StepLoopDeps): StepLoops {
  const loops = new Map<WeightSet, { busy: boolean }>()

  async function run(weights: WeightSet, loop: { busy: boolean }): Promise<void> {
    while (loops.get(weights) === loop) {
      const running = step(weights)
      if (!running) break
      await running
      wake()
    }
    loop.busy = false
  }

  function wake(): void {
    for (const [weights, loop] of loops) {
      if (loop.busy) continue
      loop.busy = true
      queueMicrotask(() => void run(weights, loop))
    }
  }

  return {
    wake,
    has: (weights) => loops.has(weights),
    start(weights) {
      if (loops.has(weights)) return
      loops.set(weights, { busy: false })
      void weights.ended.then((cause) => {
        loops.delete(weights)
        lost(weights, cause)
      })
    },
  }
}
