import type { GenerationOutcome, PartProgress } from '../../engine/generation-request.ts'

/** One call, from its arrival until its receipt is issued. */
export interface RunningCall {
  /** Adds an engine request of the call. */
  track(part: number, outcome: Promise<GenerationOutcome>): void
  end(): void
}

/** The calls of a node. Heartbeats report them also while the engine has none of their requests. */
export interface RunningCalls {
  readonly count: number
  begin(requestId: string): RunningCall
  /** Returns an entry for each call itself, and one for each of its engine requests that ended. */
  progress(): PartProgress[]
}

/** Creates an empty set of calls. */
export function createRunningCalls(): RunningCalls {
  const open = new Set<PartProgress[]>()
  return {
    get count() {
      return open.size
    },
    begin(requestId) {
      const arrived = { requestId, part: 0, promptTokens: 0, completionTokens: 0, idleMs: Infinity }
      const parts: PartProgress[] = [arrived]
      open.add(parts)
      return {
        track(part, outcome) {
          void outcome.then(({ promptTokens, completionTokens }) =>
            parts.push({ ...arrived, part, promptTokens, completionTokens }),
          )
        },
        end: () => void open.delete(parts),
      }
    },
    progress: () => [...open].flat(),
  }
}
