import { AppError } from '@copal/shared/errors.ts'
import type { Request } from './request.ts'

/** What drains read of the engine, and how they end a request that is late. */
export interface DrainDeps {
  boundTo: (version: number) => Request[]
  activeVersion: () => number | undefined
  /** Starts the request over on other weights or ends it, if it can; called once at the deadline. */
  giveUp: (request: Request) => void
}

/** Waits for weight sets to become idle. */
export interface Drains {
  /** @throws AppError `conflict` when the version is active, or becomes active before it is idle */
  start(version: number, deadlineMs: number): Promise<void>
  /** To be called after anything ended or the active set changed. */
  settle(): void
}

/** No drain under way. */
export function createDrains({ boundTo, activeVersion, giveUp }: DrainDeps): Drains {
  const waiting = new Set<{ version: number; done: (error?: AppError) => void }>()

  const conflict = (version: number) =>
    new AppError(
      'conflict',
      `Mask version ${version} is active and cannot be drained. Activate another one first.`,
    )

  const settle = () => {
    for (const drain of waiting) {
      if (drain.version === activeVersion()) drain.done(conflict(drain.version))
      else if (boundTo(drain.version).length === 0) drain.done()
    }
  }

  return {
    settle,
    start(version, deadlineMs) {
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      const timer = setTimeout(() => {
        for (const request of boundTo(version)) giveUp(request)
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
