import { setTimeout as sleep } from 'node:timers/promises'

/** The period of the first cron trigger in `wrangler.toml`. */
const PERIOD_MS = 60_000
const EVERY_MINUTE = '* * * * *'
/** Every fifth event names no trigger, and runs the heavy tasks too. */
const HEAVY_EVERY = 5

/**
 * Fires the gateway's cron triggers as Cloudflare would; local Wrangler never does. The first tick is immediate and runs all
 * tasks, because they also resume an update whose Workflow was lost when the gateway was killed.
 */
export async function runCron(origin: string, signal: AbortSignal): Promise<void> {
  for (let tick = 0; ; tick += 1) {
    const query = tick % HEAVY_EVERY === 0 ? '' : `?cron=${encodeURIComponent(EVERY_MINUTE)}`
    const response = await fetch(`${origin}/cdn-cgi/local/scheduled${query}`, { signal }).catch(
      () => undefined,
    )
    await response?.body?.cancel()
    await sleep(PERIOD_MS, undefined, { signal })
  }
}
