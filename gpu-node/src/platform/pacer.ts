/**
 * Keeps work at a share of the time while something else has priority.
 *
 * The work calls {@link Pacer.pause} between its pieces. While it is bound, each piece is followed by a wait, so that the pieces
 * take the share of the time; the wait ends as soon as the work is not bound any more. Unbound, nothing waits.
 */
export interface Pacer {
  /**
   * Waits for the time that the work since the last call costs.
   *
   * @throws the reason of `signal`
   */
  pause(signal?: AbortSignal): Promise<void>
  /** Binds the work to its share, or releases it. */
  bind(isBound: boolean): void
}

/**
 * Creates a pacer, unbound. Work begins now.
 *
 * @param share 0 to 1; 1 never waits
 */
export function createPacer(share: number, nowMs: () => number = () => performance.now()): Pacer {
  let isBound = false
  let workedSinceMs = nowMs()
  let release: (() => void) | undefined

  /** Waits, until released or aborted. */
  function wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', end)
        release = undefined
        resolve()
      }
      const timer = setTimeout(end, ms)
      signal?.addEventListener('abort', end, { once: true })
      release = end
    })
  }

  return {
    async pause(signal) {
      signal?.throwIfAborted()
      const workedMs = nowMs() - workedSinceMs
      if (isBound && share < 1) await wait(workedMs * (1 / share - 1), signal)
      workedSinceMs = nowMs()
      signal?.throwIfAborted()
    },
    bind(bound) {
      // Work before it was bound costs nothing.
      if (bound && !isBound) workedSinceMs = nowMs()
      isBound = bound
      if (!bound) release?.()
    },
  }
}
