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
import { createMetering } from '../usage/limits/metering.ts'
import { dispatch } from './dispatch/dispatch.ts'
import { streamResponse } from './stream/stream-response.ts'

/**
 * Runs a request on a node and relays the node's response.
 *
 * A request that fails before its first byte is tried on another node, or on the same one once it is back.
 *
 * @throws AppError `rate_limit_exceeded`, `insufficient_quota`, `model_not_found`,
 * `overloaded`, `no_node_available`, or the error that the node returned
 */
export async function runGeneration(
  c: Context<KeyedEnv>,
  generation: Generation,
  listener?: ResponseListener,
): Promise<Response> {
  const { deps, trace, key, requestId, completedRequests, knownRejections, domainOwners } = c.var
  const { model, maxTokens, prompts = 1, choices = 1 } = generation
  const operation = operationOf(generation.path)
  const span = trace.startCall(`${operation} ${model.id}`, {
    'gen_ai.operation.name': operation,
    'gen_ai.provider.name': 'copal',
    'gen_ai.request.model': model.id,
    'gen_ai.request.stream': generation.request.stream === true,
    'copal.domain': generation.domain,
    'copal.sampled': generation.sample,
  })
  const endSpan = (error?: Error) => {
    // Without its message, which may quote the request.
    if (error) {
      span.setAttribute('error.type', error instanceof AppError ? error.code : error.name)
      span.setStatus({ code: SpanStatusCode.ERROR })
    }
    span.end()
  }
  const alarms = createAlarms()
  /** Aborted when the client disconnects or its key is revoked. */
  const abort = linkAbort(c.req.raw.signal)
  const watch = watchKey(c.var.keyWatch, alarms, () => abort.abort())
  const metering = createMetering(deps, {
    key,
    requestId,
    model: model.id,
    promptTokens: generation.promptTokens,
    completedRequests,
    knownRejections,
    setHeader: (name, value) => c.header(name, value),
    maxTokens,
    prompts,
    choices,
  })
  try {
    metering.rejectIfKnown()
    const dispatched = await dispatch(deps, {
      requestId,
      key,
      domainOwners,
      generation,
      metering,
      completedRequests,
      headers: trace.headers(span),
      startLease: (attempt) => trace.startPart('lease', span, { 'copal.attempt': attempt }),
      signal: abort.signal,
      alarms,
    })
    const { node, leaseId, maskVersion, isLimited, response, body } = dispatched
    // A late response, whose headers were sent before the request ran, names its mask in its events.
    const leasedMask = response.headers.has(LATE_HEADER) ? undefined : String(maskVersion)
    const mask = response.headers.get('x-copal-mask') ?? leasedMask
    span.setAttributes({ 'copal.node': node.nodeId, 'copal.lease': leaseId })
    if (mask !== undefined) {
      span.setAttribute('copal.mask', mask)
      c.header('x-copal-mask', mask)
    }
    c.header('x-copal-node', node.nodeId)
    c.header('x-copal-domain', generation.domain)
    const contentType = response.headers.get('content-type') ?? 'application/json'
    c.header('content-type', contentType)
    if (body) {
      if (!isLimited && Number.isSafeInteger(Number(mask)))
        listener?.complete?.({ body, contentType, maskVersion: Number(mask), nodeId: node.nodeId })
      listener?.ended('whole')
      watch.stop()
      metering.completed()
      endSpan()
      return c.body(body)
    }
    c.header('cache-control', 'no-cache')
    // Else nginx before the gateway collects events before it sends any.
    c.header('x-accel-buffering', 'no')
    const { readable, settled } = streamResponse(deps, {
      path: generation.path,
      dispatched,
      watch,
      finished({ end, outcome, error }) {
        metering.completed()
        span.setAttribute('copal.stream_end', end)
        listener?.ended(outcome)
        endSpan(error)
      },
    })
    deps.waitUntil(settled)
    return c.body(readable)
  } catch (thrown) {
    watch.stop()
    const error = watch.error() ?? (thrown instanceof NodeCallError ? thrown.error : thrown)
    metering.failed(thrown instanceof NodeCallError && thrown.how === 'ended')
    listener?.ended(isClientAbort(error) ? 'left' : 'failed')
    endSpan(error instanceof Error ? error : new Error(String(error)))
    throw error
  }
}

/** Returns whether the request ended because the client disconnected or its key was revoked. */
function isClientAbort(error: unknown): boolean {
  return (
    error instanceof AppError && (error.code === 'client_closed_request' || error.code === 'invalid_api_key')
  )
}

/** Returns the operation of a route of the node RPC by the GenAI conventions; the Responses API is a chat, too. */
function operationOf(path: string): 'chat' | 'text_completion' | 'embeddings' {
  if (path.endsWith('/embeddings')) return 'embeddings'
  return path.endsWith('/rpc/completions') ? 'text_completion' : 'chat'
}
