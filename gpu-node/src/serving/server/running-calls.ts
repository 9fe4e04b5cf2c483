import type { GenerationOutcome, PartProgress } from '../engine/generation-request.ts'

/** One call, from its arrival until its receipt is the desk's. */
export interface Call {
  /** One of its requests to the engine. */
  follow(part: number, outcome: Promise<GenerationOutcome>): void
  end(): void
}

/** The calls that a node has: heartbeats name them also while the engine has none of their requests. */
export interface Calls {
  begin(requestId: string): Call
  /** Of each call that it is here, and what those of its requests did that have ended. */
  parts(): PartProgress[]
}

/** None yet. */
export function createCalls(): Calls {
  const open = new Set<PartProgress[]>()
  return {
    begin(requestId) {
      const here = { requestId, part: 0, promptTokens: 0, completionTokens: 0, idleMs: Infinity }
      const parts: PartProgress[] = [here]
      open.add(parts)
      return {
        follow(part, outcome) {
          void outcome.then(({ promptTokens, completionTokens }) =>
            parts.push({ ...here, part, promptTokens, completionTokens }),
          )
        },
        end: () => void open.delete(parts),
      }
    },
    parts: () => [...open].flat(),
  }
}
