import { setTimeout as sleep } from 'node:timers/promises'
import { type NodeEntry, statusReport, updateEntry, type UpdateEntry } from '@copal/shared/wire/admin.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import type { ApiClient } from './api-client.ts'
import type { ProgressBar } from '../output/progress-bar.ts'
import { formatDuration } from '@copal/gpu-node/platform/quantities.ts'

type Admin = Pick<ApiClient, 'admin'>

/**
 * Errors of a gateway that is being restarted, in whole or in part, and how long to wait for it. A defect returns
 * `internal_error` every time, so that wait is short.
 */
const RESTART_TIMEOUTS_MS: Readonly<Record<string, number>> = {
  gateway_unreachable: 180_000,
  unexpected_answer: 180_000,
  stream_broken: 180_000,
  service_unavailable: 180_000,
  internal_error: 20_000,
}

/** States in which nothing happens without a node. */
const NODE_STATES = new Set(['calibrating', 'evaluating', 'confirming', 'canary', 'promoting'])
/** A wait shorter than this is not reported. */
const REPORT_AFTER_MS = 4000
/** Nodes come and go, so the reason why none works is asked for again after this time. */
const ASK_AGAIN_MS = 30_000
const CLOCK = { pollMs: 500, nowMs: () => performance.now() }

/**
 * Shows a progress bar until the update has ended, and prints what the update waits for when nothing happens. The bar
 * goes back only when a node starts its work again, which is printed too. If the gateway restarts meanwhile, this waits
 * for it: updates survive a restart.
 *
 * @param clock replaced in tests
 * @throws UserError `interrupted`; the last error of the gateway when it was away for minutes
 */
export async function followUpdate(
  client: Admin,
  id: string,
  bar: ProgressBar,
  signal: AbortSignal,
  clock = CLOCK,
): Promise<UpdateEntry> {
  let reported: string | undefined
  const report = (reason: string | undefined) => {
    if (reason !== undefined && reason !== reported) bar.end(reason)
    reported = reason
  }
  let awaySinceMs: number | undefined
  let idle: { askMs: number; reason: string | undefined } | undefined
  let shown = 0
  for (;;) {
    const nowMs = clock.nowMs()
    const update = await fetchUpdate(client, id)
    if (update instanceof UserError) {
      awaySinceMs ??= nowMs
      const awayMs = nowMs - awaySinceMs
      if (awayMs >= (RESTART_TIMEOUTS_MS[update.code] ?? 0)) throw gaveUp(update, id, awayMs)
      if (awayMs >= REPORT_AFTER_MS) report(`${update.message} Waiting for it …`)
    } else {
      awaySinceMs = undefined
      const { progress, job } = update
      const isRepeated = progress < shown && (job?.attempt ?? 1) > 1
      if (isRepeated) bar.end(`The work was started again on node ${job?.node} (attempt ${job?.attempt}).`)
      shown = isRepeated ? progress : Math.max(shown, progress)
      bar.update(`Update of ${update.domains.join(', ')}`, shown, describeProgress(update))
      if (update.finished_at) {
        bar.end()
        return update
      }
      if (job || !NODE_STATES.has(update.state)) idle = undefined
      else idle ??= { askMs: nowMs + REPORT_AFTER_MS, reason: undefined }
      if (idle && nowMs >= idle.askMs)
        idle = { askMs: nowMs + ASK_AGAIN_MS, reason: await explainIdleNodes(client, update.model) }
      report(idle?.reason)
    }
    await sleep(clock.pollMs, undefined, { signal }).catch(() => {
      bar.end()
      throw new UserError('interrupted', `Interrupted. Update ${id} continues. See: npx copal updates`)
    })
  }
}

/** Returns the update, or an error that a restart explains. */
function fetchUpdate(client: Admin, id: string): Promise<UpdateEntry | UserError> {
  return client.admin('GET', `/updates/${id}`, updateEntry).catch((error: unknown) => {
    if (error instanceof UserError && error.code in RESTART_TIMEOUTS_MS) return error
    throw error
  })
}

function gaveUp(last: UserError, id: string, awayMs: number): UserError {
  return new UserError(
    last.code,
    `${last.message} This has lasted for ${formatDuration(awayMs)}. Update ${id} continues when the gateway is back: npx copal updates ${id}`,
    { cause: last },
  )
}

/** The estimate of a job, at the end of its message, of the time left. */
const TIME_LEFT = /, about (\d+) s left$/

/** Removes the job's own estimate of the time left: the bar shows that of the whole update. */
function describeProgress(update: UpdateEntry): string {
  return (update.job?.message || update.message || update.state).replace(TIME_LEFT, '')
}

/** Returns the message of a job with its estimate of the time left in minutes or hours where it is long. */
export function withTimeLeft(message: string): string {
  return message.replace(TIME_LEFT, (_, s: string) => `, about ${formatDuration(Number(s) * 1_000)} left`)
}

/** Returns why no node does the work and what to do about it; undefined when a node may start at any moment. */
async function explainIdleNodes(client: Admin, model: string): Promise<string | undefined> {
  const status = await client.admin('GET', '/status', statusReport).catch(() => undefined)
  const nodes = status?.nodes.filter((node) => node.model === model)
  if (!nodes || nodes.some(({ alive, draining }) => alive && !draining)) return undefined
  const reasons = nodes.map(explainIdleNode).join('; ')
  return reasons === ''
    ? `No node serves ${model}. See: npx copal nodes`
    : `No node can do the work: ${reasons}`
}

function explainIdleNode({ id, alive, drained_by_operator: drained }: NodeEntry): string {
  if (!alive) return `${id} is away (npx copal nodes)`
  return drained ? `${id} is draining (npx copal undrain ${id})` : `${id} is about to stop`
}
