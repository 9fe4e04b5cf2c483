import { Hono } from 'hono'
import { AppError, errorBody } from '@copal/shared/errors.ts'
import { evaluateText } from '@copal/shared/wire/admin.ts'
import { MAX_EVALUATE_BYTES, type EvaluateCall, type EvaluateEvent } from '@copal/shared/wire/node-calls.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { requireMask } from '../../adaptation/models/require-mask.ts'
import type { NodeView } from '../../contracts/node-view.ts'
import {
  connectionLost,
  callNode,
  NodeCallError,
  noResponseInTime,
  abortError,
  type NodeResponse,
} from '../../fleet/client/node-client.ts'
import { relay } from '../../fleet/client/relay.ts'
import { createAlarms, type Alarms } from '../../runtime/alarms.ts'
import { linkAbort } from '../../runtime/linked-abort.ts'
import { findOperatorModel } from '../../adaptation/models/find-operator-model.ts'
import { readAdminBody } from './admin-body.ts'

/** Maximum time between two lines. A node reports each window that it has scored; the first may wait for a mask to load. */
const SILENCE_TIMEOUT_MS = 120_000
const NEWLINE = 0x0a

/**
 * Creates the route that has a node compute the perplexity of a text, and streams the node's progress and result.
 *
 * @param silenceMs timeout of the node's first line, and between two lines
 */
export function evaluationRoutes(silenceMs = SILENCE_TIMEOUT_MS): Hono<ActorEnv> {
  return new Hono<ActorEnv>().post('/evaluate', async (c) => {
    const { deps } = c.var
    const request = await readAdminBody(c, evaluateText, MAX_EVALUATE_BYTES)
    const model = await findOperatorModel(deps.db, request.model)
    const version = request.mask_version ?? model.activeVersion
    const mask = version === 0 ? undefined : await requireMask(deps.db, model.id, version, 'mask_version')
    const call: EvaluateCall = {
      model: model.id,
      maskVersion: version,
      ...(mask ? { mask: { version, sha256: mask.sha256 } } : {}),
      text: request.text,
      windowTokens: request.window_tokens,
      ...(request.max_windows === undefined ? {} : { maxWindows: request.max_windows }),
    }
    const { nodes } = await deps.fleet.snapshot()
    const node = leastLoaded(
      nodes.filter((candidate) => candidate.model === model.id),
      version,
    )
    const address = { nodeId: node.id, url: node.url }
    const attempt = linkAbort(c.req.raw.signal)
    const alarms = createAlarms()
    const response = await callNode(deps, address, '/rpc/evaluate', call, {
      attempt,
      firstByte: { timeoutMs: silenceMs, alarms },
      headers: { accept: 'application/x-ndjson' },
    }).catch((error: unknown) => {
      throw error instanceof NodeCallError ? error.error : error
    })
    const silence = {
      timeoutMs: silenceMs,
      ring: () => attempt.abort(noResponseInTime(address, silenceMs)),
    }
    const { rest, isMidLine, stop } = watchLines(response, alarms, silence)
    const { readable, ended } = relay({ ...response, rest }, (cause) => {
      const { error } = attempt.signal.aborted ? abortError(attempt.signal) : connectionLost(address, cause)
      const event: EvaluateEvent = { type: 'error', ...errorBody(error) }
      return `${isMidLine() ? '\n' : ''}${JSON.stringify(event)}\n`
    })
    deps.waitUntil(ended.then(stop))
    return new Response(readable, {
      headers: { 'content-type': 'application/x-ndjson', 'x-copal-node': node.id },
    })
  })
}

/** @throws AppError `no_node_available` */
function leastLoaded(nodes: readonly NodeView[], version: number): NodeView {
  const alive = nodes.filter((node) => node.alive && !node.draining)
  const holders = alive.filter((node) =>
    node.weightSets.some((set) => set.version === version && set.state === 'ready'),
  )
  const [best] = (holders.length > 0 ? holders : alive).toSorted(
    (a, b) => a.running + a.waiting - b.running - b.waiting,
  )
  if (best) return best
  throw new AppError(
    'no_node_available',
    'No node of this model is available. Start a node, or try again in 5 s.',
    { retryAfterS: 5 },
  )
}

/** Passes a response through, calls `ring` after a silence, and tracks whether the last line is complete. */
function watchLines(
  { first, rest }: NodeResponse,
  alarms: Alarms,
  silence: { timeoutMs: number; ring: () => void },
) {
  let last = first
  let stop = alarms.after(silence.timeoutMs, silence.ring)
  const watched = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array>({
    transform(chunk, controller) {
      stop()
      stop = alarms.after(silence.timeoutMs, silence.ring)
      last = chunk
      controller.enqueue(chunk)
    },
  })
  return {
    rest: rest?.pipeThrough(watched) ?? null,
    isMidLine: () => last.at(-1) !== NEWLINE,
    stop: () => stop(),
  }
}
