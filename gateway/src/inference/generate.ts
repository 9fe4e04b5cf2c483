import { SpanStatusCode } from '@opentelemetry/api'
import type { Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import type { ModelName } from '@copal/shared/wire/model-name.ts'
import type { KeyedEnv } from '../context.ts'
import {
  brokenOff,
  callNode,
  clientLeft,
  NodeCallError,
  readWhole,
  type NodeAddress,
  type NodeAnswer,
} from '../fleet/node-client.ts'
import type { Admitted } from '../fleet/fleet.ts'
import type { FailedAttempt } from '../fleet/state.ts'
import { requireAllowed } from '../keys/allowed.ts'
import { meter, type Metering } from '../limits/metering.ts'
import { relay } from './relay.ts'
import { noNode, RETRY_AFTER_S, unserved } from './unserved.ts'

/** Tries on nodes before a request is given up. */
const MAX_ATTEMPTS = 4
/** Pauses before a request whose node failed asks again, when no other node is left. */
const PAUSES_MS = [250, 1_000, 2_000]
const STREAM_FIRST_BYTE_MS = 100_000
/** An answer at once has its first byte when its last token is there. */
const WHOLE_FIRST_BYTE_MS = 600_000

/** One admitted request, ready for a node. */
export interface Generation {
  /** `/rpc/chat-completions`, `/rpc/completions` or `/rpc/responses`. */
  path: string
  model: ModelName
  domain: string
  sample: boolean
  /** Estimate of the tokens of all prompts. */
  promptTokens: number
  /** Most tokens of each choice that the client asks for; null when it names no bound. */
  maxTokens: number | null
  /** The field that bounds the answer of a client that names no bound. */
  boundField?: 'max_tokens' | 'max_output_tokens'
  /** Prompts and choices over all of them; one of each when left out. */
  prompts?: number
  choices?: number
  /** The parsed body of the client's request. */
  request: { model: string; stream?: boolean | null | undefined }
}

interface Attempt {
  node: NodeAddress
  leaseId: string
  maskVersion: number
  answer: NodeAnswer
  /** The whole body, of a request that is not streamed. */
  whole: Uint8Array<ArrayBuffer> | undefined
}

/**
 * Has a node generate, and answers with what it sends.
 *
 * A request that fails before its first byte is tried on another node, or on the same one once it is
 * back; each try has a request id of its own, so that the receipt of a broken one cannot settle another.
 *
 * @throws AppError `insufficient_permissions`, `rate_limit_exceeded`, `insufficient_quota`, `model_not_found`,
 * `no_node_available`, or what the node answered.
 */
export async function generate(c: Context<KeyedEnv>, generation: Generation): Promise<Response> {
  const { deps, trace, key } = c.var
  const { model, maxTokens, prompts = 1, choices = 1 } = generation
  requireAllowed(key.allowedModels, model.id, 'model', 'model')
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
  const watch = c.var.watchKey()
  const metering = meter(c, { maxTokens, prompts, choices })
  try {
    const signal = AbortSignal.any([c.req.raw.signal, watch.signal])
    const { node, leaseId, maskVersion, answer, whole } = await place(
      c,
      generation,
      metering,
      trace.headers(span),
      signal,
    )
    const mask = answer.headers.get('x-copal-mask') ?? String(maskVersion)
    span.setAttributes({ 'copal.node': node.nodeId, 'copal.mask': mask, 'copal.lease': leaseId })
    c.header('x-copal-mask', mask)
    c.header('x-copal-node', node.nodeId)
    c.header('x-copal-domain', generation.domain)
    c.header('content-type', answer.headers.get('content-type') ?? 'application/json')
    if (whole) {
      watch.stop()
      metering.answered()
      endSpan()
      return c.body(whole)
    }
    c.header('cache-control', 'no-cache')
    const { readable, ended } = relay(answer, (cause) => watch.refusal() ?? brokenOff(node, cause).error)
    const settled = ended.then(async (end) => {
      watch.stop()
      metering.answered()
      span.setAttribute('copal.stream_end', end)
      const broke = end === 'broken' && !watch.refusal()
      endSpan(broke ? new Error(`node ${node.nodeId} broke off`) : watch.refusal())
      if (broke) await deps.fleet.fail({ requestId: leaseId, nodeId: node.nodeId, broke: true })
    })
    deps.waitUntil(settled)
    return c.body(readable)
  } catch (thrown) {
    watch.stop()
    const error = watch.refusal() ?? (thrown instanceof NodeCallError ? thrown.error : thrown)
    metering.failed(signalled(error))
    endSpan(error instanceof Error ? error : new Error(String(error)))
    throw error
  }
}

/** Finds a node for the request and waits for its first byte, or for its whole answer when it is not streamed. */
async function place(
  c: Context<KeyedEnv>,
  generation: Generation,
  metering: Metering,
  headers: Record<string, string>,
  signal: AbortSignal,
): Promise<Attempt> {
  const { deps, requestId, key } = c.var
  const { path, domain, sample, promptTokens, boundField = 'max_tokens' } = generation
  const { id: model, version } = generation.model
  const request = { ...generation.request, model }
  const { stream } = request
  const options = { signal, headers, firstByteTimeoutMs: stream ? STREAM_FIRST_BYTE_MS : WHOLE_FIRST_BYTE_MS }
  const exclude: string[] = []
  let last: (FailedAttempt & { error: AppError }) | undefined
  let untold: FailedAttempt | undefined
  let pauses = 0
  for (let attempts = 0; ;) {
    const leaseId = attempts === 0 ? requestId : `${requestId}.${attempts + 1}`
    const account = key.id
    const wanted = {
      model,
      version,
      requestId: leaseId,
      account,
      domain,
      promptTokens,
      exclude,
      failed: untold,
    }
    const acquired: Admitted = await deps.fleet.acquire(
      metering.wanted ? { ...wanted, limits: metering.wanted } : wanted,
    )
    untold = undefined
    metering.tell(acquired)
    if (!acquired.ok) {
      if (acquired.refusal) throw new Error('a refusal was not told')
      if (!last) throw await unserved(deps, key.allowedModels, generation.model, acquired)
      const pauseMs = PAUSES_MS[pauses++]
      if (pauseMs === undefined || last.error.code === 'overloaded') throw lastRefusal(last, model)
      await new Promise((resolve) => setTimeout(resolve, pauseMs))
      if (signal.aborted) throw clientLeft()
      exclude.length = 0
      continue
    }
    attempts += 1
    const { nodeId, url, maskVersion } = acquired
    const node = { nodeId, url }
    try {
      const bounded = acquired.maxTokens == null ? request : { ...request, [boundField]: acquired.maxTokens }
      const named = version === undefined ? {} : { maskVersion: version }
      const { tenant } = key
      const call = { requestId: leaseId, account, tenant, domain, sample, ...named, request: bounded }
      const answer = await callNode(deps, node, path, call, options)
      const whole = stream ? undefined : await readWhole(node, answer, signal)
      return { node, leaseId, maskVersion, answer, whole }
    } catch (thrown) {
      const failed = { requestId: leaseId, nodeId, broke: thrown instanceof NodeCallError && thrown.broke }
      if (!(thrown instanceof NodeCallError && mayRetry(thrown.error) && attempts < MAX_ATTEMPTS)) {
        deps.waitUntil(deps.fleet.fail(failed))
        throw thrown
      }
      last = { ...failed, error: thrown.error }
      untold = failed
      exclude.push(nodeId)
    }
  }
}

/** The client left, or its key was revoked: the node may have worked for it all the same. */
function signalled(error: unknown): boolean {
  return (
    error instanceof AppError && (error.code === 'client_closed_request' || error.code === 'invalid_api_key')
  )
}

/** A late node may still be working on the request, and another would be as late. */
function mayRetry(error: AppError): boolean {
  return error.retryable && error.code !== 'deadline_exceeded'
}

function lastRefusal(failed: FailedAttempt & { error: AppError }, model: string): AppError {
  const { error } = failed
  if (failed.broke) {
    return noNode(
      `Node '${failed.nodeId}' went away before it answered, and no other node serves '${model}'. ` +
        `Try again in ${RETRY_AFTER_S} s.`,
      error,
    )
  }
  if (error.retryAfterS !== undefined) return error
  return new AppError(error.code, error.message, { cause: error, retryAfterS: RETRY_AFTER_S })
}
