import { Hono } from 'hono'
import { AppError, errorBody } from '@copal/shared/errors.ts'
import { evaluateText } from '@copal/shared/wire/admin.ts'
import type { EvaluateCall, EvaluateEvent } from '@copal/shared/wire/node-rpc.ts'
import type { AppEnv } from '../../context.ts'
import { findMask } from '../../db/queries/masks.ts'
import type { NodeView } from '../../fleet/node-view.ts'
import {
  brokenOff,
  callNode,
  NodeCallError,
  type NodeAddress,
  type NodeAnswer,
} from '../../fleet/node-client.ts'
import { refuseMethod } from '../../middleware/errors.ts'
import { createAlarms } from '../../inference/alarms.ts'
import { follow } from '../../inference/follow.ts'
import { resolveModel } from '../../updates/model.ts'
import { readAdmin } from './body.ts'

/** Text, its copy while it is parsed, and the call to the node must fit a Worker's 128 MB. */
const MAX_BODY_BYTES = 16 * 1024 * 1024
/** A node answers its first progress line when it has scored the first window, which may wait for a mask to load. */
const FIRST_BYTE_MS = 120_000
const NEWLINE = 0x0a

/** Perplexity of an operator's text, worked out by a node and streamed through. */
export function evaluateRoutes(): Hono<AppEnv> {
  return new Hono<AppEnv>()
    .post('/evaluate', async (c) => {
      const { deps } = c.var
      const request = await readAdmin(c, evaluateText, MAX_BODY_BYTES)
      const model = await resolveModel(deps.db, request.model)
      const version = request.mask_version ?? model.activeVersion
      const mask = version === 0 ? undefined : await findMask(deps.db, model.id, version)
      if (version !== 0 && !mask) {
        throw new AppError(
          'not_found',
          `'${model.id}' has no mask m${version}. 'GET /admin/masks' lists them.`,
          {
            param: 'mask_version',
          },
        )
      }
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
      const { readable, writable } = new IdentityTransformStream()
      const answer = await callNode(deps, address, '/rpc/evaluate', call, {
        attempt: follow(c.req.raw.signal),
        firstByte: { timeoutMs: FIRST_BYTE_MS, alarms: createAlarms() },
        headers: { accept: 'application/x-ndjson' },
      }).catch((error: unknown) => {
        throw error instanceof NodeCallError ? error.error : error
      })
      deps.waitUntil(relay(address, answer, writable))
      return new Response(readable, {
        headers: { 'content-type': 'application/x-ndjson', 'x-copal-node': node.id },
      })
    })
    .all('/evaluate', refuseMethod('POST'))
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
    'No node of this model is alive. Start one, or try again shortly.',
    { retryAfterS: 5 },
  )
}

/**
 * Passes the answer on as it comes. One that the node breaks off ends with an `error` event, so that it never
 * looks whole; when the client leaves, the node's work is cancelled.
 */
async function relay(
  node: NodeAddress,
  answer: NodeAnswer,
  writable: WritableStream<Uint8Array>,
): Promise<void> {
  const writer = writable.getWriter()
  const reader = answer.rest?.getReader()
  let chunk: Uint8Array | undefined = answer.first
  let midLine = false
  try {
    while (chunk) {
      if (!(await delivered(writer, chunk))) return await reader?.cancel()
      midLine = chunk.at(-1) !== NEWLINE
      chunk = (await reader?.read())?.value
    }
  } catch (cause) {
    const event: EvaluateEvent = { type: 'error', ...errorBody(brokenOff(node, cause).error) }
    const line = `${midLine ? '\n' : ''}${JSON.stringify(event)}\n`
    await delivered(writer, new TextEncoder().encode(line))
  }
  await writer.close().catch(() => undefined)
}

/** @returns false when the client is gone. */
async function delivered(
  writer: WritableStreamDefaultWriter<Uint8Array>,
  bytes: Uint8Array,
): Promise<boolean> {
  try {
    await writer.write(bytes)
    return true
  } catch {
    return false
  }
}
