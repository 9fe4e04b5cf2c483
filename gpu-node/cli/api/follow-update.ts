import { setTimeout as sleep } from 'node:timers/promises'
import { type NodeEntry, statusReport, updateEntry, type UpdateEntry } from '@copal/shared/wire/admin.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import type { ApiClient } from './api-client.ts'
import type { ProgressBar } from '../output/progress-bar.ts'
import { formatDuration } from '@copal/gpu-node/platform/quantities.ts'

type Admin = Pick<ApiClient, 'admin'>

/**
 * What a gateway answers, if at all, that is being restarted, or of which a part is, and how long it is waited for while it
 * does: a defect answers for good.
 */
const PATIENCE_MS: Readonly<Record<string, number>> = {
  gateway_unreachable: 180_000,
  unexpected_answer: 180_000,
  stream_broken: 180_000,
  service_unavailable: 180_000,
  internal_error: 20_000,
}

/** States whose work is a node's. */
const NODES_WORK = new Set(['calibrating', 'evaluating'])
/** What is waited for is left unsaid for so long. */
const SAYS_AFTER_MS = 4000
/** Nodes come and go: why none works is asked again after so long. */
const ASKS_AGAIN_MS = 30_000
const CLOCK = { pollMs: 500, nowMs: () => performance.now() }

/**
 * Shows a bar until the update has ended, and says what it waits for when nothing happens. The bar goes back only where
 * a node began its work anew, which is said. A gateway that restarts meanwhile is waited for: updates survive it.
 *
 * @param clock given in tests
 * @throws UserError `interrupted`; what the gateway last said or did not say, when it was away for minutes
 */
export async function followUpdate(
  client: Admin,
  id: string,
  bar: ProgressBar,
  signal: AbortSignal,
  clock = CLOCK,
): Promise<UpdateEntry> {
  let told: string | undefined
  const tell = (reason: string | undefined) => {
    if (reason !== undefined && reason !== told) bar.end(reason)
    told = reason
  }
  let awaySinceMs: number | undefined
  let idle: { askMs: number; reason: string | undefined } | undefined
  let shown = 0
  for (;;) {
    const nowMs = clock.nowMs()
    const update = await askFor(client, id)
    if (update instanceof UserError) {
      awaySinceMs ??= nowMs
      const awayMs = nowMs - awaySinceMs
      if (awayMs >= (PATIENCE_MS[update.code] ?? 0)) throw gaveUp(update, id, awayMs)
      if (awayMs >= SAYS_AFTER_MS) tell(`${update.message} Waiting for it …`)
    } else {
      awaySinceMs = undefined
      const { progress, job } = update
      const isAgain = progress < shown && (job?.attempt ?? 1) > 1
      if (isAgain) bar.end(`The work was started again, on node ${job?.node} (attempt ${job?.attempt}).`)
      shown = isAgain ? progress : Math.max(shown, progress)
      bar.update(`Update of ${update.domains.join(', ')}`, shown, describeProgress(update))
      if (update.finished_at) {
        bar.end()
        return update
      }
      if (job || !NODES_WORK.has(update.state)) idle = undefined
      else idle ??= { askMs: nowMs + SAYS_AFTER_MS, reason: undefined }
      if (idle && nowMs >= idle.askMs)
        idle = { askMs: nowMs + ASKS_AGAIN_MS, reason: await whatKeepsNodes(client, update.model) }
      tell(idle?.reason)
    }
    await sleep(clock.pollMs, undefined, { signal }).catch(() => {
      bar.end()
      throw new UserError('interrupted', `Interrupted; update ${id} goes on. See: copal updates`)
    })
  }
}

/** The update, or what passes. */
function askFor(client: Admin, id: string): Promise<UpdateEntry | UserError> {
  return client.admin('GET', `/updates/${id}`, updateEntry).catch((error: unknown) => {
    if (error instanceof UserError && error.code in PATIENCE_MS) return error
    throw error
  })
}

function gaveUp(last: UserError, id: string, awayMs: number): UserError {
  return new UserError(
    last.code,
    `${last.message} So it has been for ${formatDuration(awayMs)}. Update ${id} goes on when that has passed: copal updates ${id}`,
    { cause: last },
  )
}

/** The bar tells the time left of the whole update; the job's own is of one part. */
function describeProgress(update: UpdateEntry): string {
  return (update.job?.message || update.message || update.state).replace(/, about \d+ s left$/, '')
}

/** Why no node does the work, and what to do; undefined where one may begin at any moment. */
async function whatKeepsNodes(client: Admin, model: string): Promise<string | undefined> {
  const status = await client.admin('GET', '/status', statusReport).catch(() => undefined)
  const nodes = status?.nodes.filter((node) => node.model === model)
  if (!nodes || nodes.some(({ alive, draining }) => alive && !draining)) return undefined
  const reasons = nodes.map(whyNot).join('; ')
  return reasons === '' ? `No node serves ${model}. See: copal nodes` : `No node takes work: ${reasons}`
}

function whyNot({ id, alive, drained_by_operator: drained }: NodeEntry): string {
  if (!alive) return `${id} is away (copal nodes)`
  return drained ? `${id} drains (copal undrain ${id})` : `${id} is about to end`
}
