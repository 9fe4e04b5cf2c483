/** Tells whether a node serves requests, for work that yields to them. */
export interface TrafficWatch {
  /**
   * Calls `onChange` at once, and whenever requests begin or have ended for a few seconds.
   *
   * @returns ends it
   */
  subscribe(onChange: (isBusy: boolean) => void): () => void
}

/** Requests are looked for this often, while anybody wants to know. */
const POLL_MS = 50
/** A node counts as busy for this time after its last request, because traffic has gaps. */
const RECENT_MS = 3_000

/** Creates a watch over the number of requests that run or wait. */
export function createTrafficWatch(requests: () => number, recentMs = RECENT_MS): TrafficWatch {
  return {
    subscribe(onChange) {
      let lastMs = Number.NEGATIVE_INFINITY
      let isBusy: boolean | undefined
      const look = () => {
        const nowMs = performance.now()
        if (requests() > 0) lastMs = nowMs
        const isBusyNow = nowMs - lastMs < recentMs
        if (isBusyNow === isBusy) return
        isBusy = isBusyNow
        onChange(isBusy)
      }
      look()
      const timer = setInterval(look, POLL_MS)
      timer.unref()
      return () => clearInterval(timer)
    },
  }
}
