import { AppError } from '@copal/shared/errors.ts'
import type { Request } from './engine-request.ts'

/** Parts of the engine that drains need. */
export interface DrainDeps {
  boundTo: (version: number) => Request[]
  activeVersion: () => number | undefined
  /** Restarts the request on other weights or ends it, where possible; called once at the deadline. */
  abandon: (request: Request) => void
}

/** Waits for weight sets to become idle. */
export interface Drains {
  /** @throws AppError `conflict` when the version is active, or becomes active before it is idle */
  start(version: number, deadlineMs: number): Promise<void>
  /** Counts the version as busy until the returned function is called, even when no request is bound to it. */
  hold(version: number): () => void
  /** Ends drains that are complete. Call it after a request ended or the active set changed. */
  settle(): void
}

/** Creates the drains of an engine. */
export function createDrains({ boundTo, activeVersion, abandon }: DrainDeps): Drains {
  const waiting = new Set<{ version: number; done: (error?: AppError) => void }>()
  const holds = new Set<{ version: number }>()

  const conflict = (version: number) =>
    new AppError(
      'conflict',
      `Mask version ${version} is active and cannot be drained. Activate another one first.`,
    )

  const isIdle = (version: number) =>
    boundTo(version).length === 0 && ![...holds].some((hold) => hold.version === version)

  const settle = () => {
    for (const drain of waiting) {
      if (drain.version === activeVersion()) drain.done(conflict(drain.version))
      else if (isIdle(drain.version)) drain.done()
    }
  }

  return {
    settle,
    hold(version) {
      const hold = { version }
      holds.add(hold)
      return () => {
        if (holds.delete(hold)) settle()
      }
    },
    start(version, deadlineMs) {
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      const timer = setTimeout(() => {
        for (const request of boundTo(version)) abandon(request)
        settle()
      }, deadlineMs)
      const drain = {
        version,
        done(error?: AppError) {
          clearTimeout(timer)
          waiting.delete(drain)
          if (error) reject(error)
          else resolve()
        },
      }
      waiting.add(drain)
      settle()
      return promise
    },
  }
}
