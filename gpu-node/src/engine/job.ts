import type { WeightSet } from '../backends/backend.ts'
import type { GenerationOutcome } from './generation.ts'
import type { Request } from './request.ts'
import type { Sink } from './sinks.ts'

/** What the engine keeps of a request beyond what the scheduler knows. */
export interface Job {
  /** The caller's. */
  id: string
  request: Request
  sink: Sink
  weights: WeightSet | null
  /** Tokens of its prompt that others had computed when it began on these weights. */
  cachedTokens: number
  startedMs: number | null
  firstTokenMs: number | null
  lastTokenMs: number | null
  progressMs: number
  arrivedMs: number
  finish: (outcome: GenerationOutcome) => void
  dispose: () => void
}

/** Calls back on abort and at the deadline until it is disposed of. */
export function watch(
  { signal, deadlineMs }: { signal?: AbortSignal | undefined; deadlineMs?: number | undefined },
  onAbort: () => void,
  onDeadline: (() => void) | undefined,
): () => void {
  signal?.addEventListener('abort', onAbort, { once: true })
  const timer = deadlineMs === undefined || !onDeadline ? undefined : setTimeout(onDeadline, deadlineMs)
  return () => {
    signal?.removeEventListener('abort', onAbort)
    clearTimeout(timer)
  }
}
