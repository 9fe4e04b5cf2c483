import { setTimeout as sleep } from 'node:timers/promises'

/** As `wrangler.toml` says. */
const PERIOD_MS = 5 * 60_000

/**
 * Fires the gateway's cron trigger, as Cloudflare would: local Wrangler never does. An update whose
 * Workflow was lost with a killed gateway is taken up again by it, so the first tick is at once.
 */
export async function runCron(origin: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    const response = await fetch(`${origin}/cdn-cgi/local/scheduled`, { signal }).catch(() => undefined)
    await response?.body?.cancel()
    await sleep(PERIOD_MS, undefined, { signal })
  }
}
