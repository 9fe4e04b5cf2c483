import type { WeightSet } from '../backends/backend.ts'
import type { Answer } from './answer.ts'
import type { EventQueue } from './event-queue.ts'
import type { GenerateEvent, GenerateRequest, GenerationOutcome } from './generation.ts'
import type { Request } from './request.ts'

/** What the engine keeps of a request beyond what the scheduler knows. */
export interface Job {
  request: Request
  answer: Answer
  queue: EventQueue<GenerateEvent>
  spec: GenerateRequest
  newAnswer: () => Answer
  weights: WeightSet | null
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
