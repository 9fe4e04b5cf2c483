import { setTimeout as sleep } from 'node:timers/promises'

/** The period of the cron trigger in `wrangler.toml`. */
const PERIOD_MS = 5 * 60_000

/**
 * Fires the gateway's cron trigger as Cloudflare would; local Wrangler never does. The first tick is immediate, because
 * the trigger also resumes an update whose Workflow was lost when the gateway was killed.
 */
export async function runCron(origin: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    const response = await fetch(`${origin}/cdn-cgi/local/scheduled`, { signal }).catch(() => undefined)
    await response?.body?.cancel()
    await sleep(PERIOD_MS, undefined, { signal })
  }
}
