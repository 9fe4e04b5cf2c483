import { setTimeout as sleep } from 'node:timers/promises'

/** The period of the first cron trigger in `wrangler.toml`. */
const PERIOD_MS = 60_000
const EVERY_MINUTE = '* * * * *'
/** Every fifth event names no trigger, and runs the heavy tasks too. */
const HEAVY_EVERY = 5

/** Fires a cron trigger of the gateway; null is every trigger. */
export type FireCron = (cron: string | null) => void | Promise<void>

/**
 * Fires the gateway's cron triggers as Cloudflare would; workerd by itself never does. The first tick is immediate and runs all
 * tasks, because they also resume an update whose Workflow was lost when the gateway was killed.
 */
export async function runCron(fire: FireCron, signal: AbortSignal): Promise<void> {
  for (let tick = 0; ; tick += 1) {
    await fire(tick % HEAVY_EVERY === 0 ? null : EVERY_MINUTE)
    await sleep(PERIOD_MS, undefined, { signal })
  }
}

/** Fires triggers of a gateway that Wrangler's development server runs, at its address for them. */
export function fireByAddress(origin: string, signal: AbortSignal): FireCron {
  return async (cron) => {
    const query = cron === null ? '' : `?cron=${encodeURIComponent(cron)}`
    const response = await fetch(`${origin}/cdn-cgi/local/scheduled${query}`, { signal }).catch(
      () => undefined,
    )
    await response?.body?.cancel()
  }
}
