import { SpanStatusCode } from '@opentelemetry/api'
import type { Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { LATE_HEADER } from '@copal/shared/wire/node-calls.ts'
import type { KeyedEnv } from '../contracts/context.ts'
import type { ResponseListener, Generation } from '../contracts/generation.ts'
import { NodeCallError } from '../fleet/client/node-client.ts'
import { watchKey } from '../keys/key-watch.ts'
import { createAlarms } from '../runtime/alarms.ts'
import { linkAbort } from '../runtime/linked-abort.ts'
import { meter } from '../usage/limits/metering.ts'
import { dispatch } from './dispatch/dispatch.ts'
import { streamResponse } from './stream/stream-response.ts'
import { priorityOf } from './validation/priority.ts'

/**
 * Has a node generate, and answers with what it sends.
 *
 * A request that fails before its first byte is tried on another node, or on the same one once it is back.
 *
 * @throws AppError `rate_limit_exceeded`, `insufficient_quota`, `model_not_found`,
 * `overloaded`, `no_node_available`, or what the node answered.
 */
export async function generate(
  c: Context<KeyedEnv>,
  generation: Generation,
  listener?: ResponseListener,
): Promise<Response> {
  const { deps, trace, key, requestId, answered } = c.var
  const { model, maxTokens, prompts = 1, choices = 1 } = generation
  const span = trace.startCall('generate', {
    'gen_ai.request.model': model.id,
    'copal.domain': generation.domain,
    'copal.sampled': generation.sample,
  })
  const endSpan = (error?: Error) => {
    if (error) {
      span.recordException(error)
      span.setStatus({ code: SpanStatusCode.ERROR, message: error.message })
    }
    span.end()
  }
  const alarms = createAlarms()
  /** Nobody waits for the answer any more: the client left, or may not have it. */
  const left = linkAbort(c.req.raw.signal)
  const watch = watchKey(c.var.keyWatch, alarms, () => left.abort())
  const metering = meter(deps, {
    key,
    requestId,
    answered,
    setHeader: (name, value) => c.header(name, value),
    maxTokens,
    prompts,
    choices,
  })
  try {
    const dispatched = await dispatch(deps, {
      requestId,
      key,
      priority: priorityOf(c),
      generation,
      metering,
      answered,
      headers: trace.headers(span),
      signal: left.signal,
      alarms,
    })
    const { node, leaseId, maskVersion, bounded, answer, whole } = dispatched
    // Of a late answer its events tell the mask.
    const known = answer.headers.has(LATE_HEADER) ? undefined : String(maskVersion)
    const mask = answer.headers.get('x-copal-mask') ?? known
    span.setAttributes({ 'copal.node': node.nodeId, 'copal.lease': leaseId })
    if (mask !== undefined) {
      span.setAttribute('copal.mask', mask)
      c.header('x-copal-mask', mask)
    }
    c.header('x-copal-node', node.nodeId)
    c.header('x-copal-domain', generation.domain)
    const contentType = answer.headers.get('content-type') ?? 'application/json'
    c.header('content-type', contentType)
    if (whole) {
      if (!bounded && Number.isSafeInteger(Number(mask)))
        listener?.take?.({ body: whole, contentType, maskVersion: Number(mask), nodeId: node.nodeId })
      listener?.ended('whole')
      watch.stop()
      metering.answered()
      endSpan()
      return c.body(whole)
    }
    c.header('cache-control', 'no-cache')
    const { readable, settled } = streamResponse(deps, {
      path: generation.path,
      dispatched,
      watch,
      finished({ end, outcome, error }) {
        metering.answered()
        span.setAttribute('copal.stream_end', end)
        listener?.ended(outcome)
        endSpan(error)
      },
    })
    deps.waitUntil(settled)
    return c.body(readable)
  } catch (thrown) {
    watch.stop()
    const error = watch.refusal() ?? (thrown instanceof NodeCallError ? thrown.error : thrown)
    metering.failed(thrown instanceof NodeCallError && thrown.worked)
    listener?.ended(signalled(error) ? 'left' : 'failed')
    endSpan(error instanceof Error ? error : new Error(String(error)))
    throw error
  }
}

/** The client left, or its key was revoked. */
function signalled(error: unknown): boolean {
  return (
    error instanceof AppError && (error.code === 'client_closed_request' || error.code === 'invalid_api_key')
  )
}
