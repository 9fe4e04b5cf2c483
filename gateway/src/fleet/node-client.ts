import { AppError, parseErrorBody } from '@copal/shared/errors.ts'
import { sign, SIGNATURE_HEADER } from '@copal/shared/wire/signature.ts'
import type { Deps } from '../deps.ts'
import { collect } from '../middleware/body.ts'

/** Most that is read of a node's error answer. */
const MAX_ERROR_BYTES = 64 * 1024
/** Most that is held of an answer that is not streamed: a million tokens with log-probabilities are more. */
const MAX_ANSWER_BYTES = 32 * 1024 * 1024

/** Where a call goes. */
export interface NodeAddress {
  nodeId: string
  url: string
}

/** A call to a node failed. `broke`: the connection did, so the node itself may be gone. */
export class NodeCallError extends Error {
  override readonly name = 'NodeCallError'
  readonly error: AppError
  readonly broke: boolean

  constructor(error: AppError, broke: boolean) {
    super(error.message, { cause: error })
    this.error = error
    this.broke = broke
  }
}

/** How a call is made. */
export interface NodeCallOptions {
  /** When it fires, the call and its body are aborted. */
  signal: AbortSignal
  /** How long the node may take until its first byte. */
  firstByteTimeoutMs: number
  headers?: Record<string, string>
}

/** A node's successful answer, of which the first bytes have arrived. */
export interface NodeAnswer {
  headers: Headers
  first: Uint8Array
  /** What follows `first`; a native stream, so that piping it costs no JavaScript. */
  rest: ReadableStream<Uint8Array>
}

/**
 * Makes one signed call to a node and waits for the first bytes of its answer, so that everything that
 * fails before them can be tried elsewhere.
 *
 * @throws NodeCallError with `client_closed_request` when `signal` fired, `deadline_exceeded` when no byte
 * came in time, `node_failed` when the connection broke, or the error that the node answered.
 */
export async function callNode(
  deps: Pick<Deps, 'nodeSecret' | 'nowMs'>,
  node: NodeAddress,
  path: string,
  value: unknown,
  options: NodeCallOptions,
): Promise<NodeAnswer> {
  const url = new URL(node.url.replace(/\/+$/, '') + path)
  const body = new Uint8Array(new TextEncoder().encode(JSON.stringify(value)))
  const signed = { method: 'POST', path: url.pathname + url.search, body }
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(), options.firstByteTimeoutMs)
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: {
        ...options.headers,
        'content-type': 'application/json',
        [SIGNATURE_HEADER]: await sign(deps.nodeSecret, signed, deps.nowMs()),
      },
      body,
      // Nodes answer where they are: the request and its signature go nowhere else.
      redirect: 'manual',
      signal: AbortSignal.any([options.signal, late.signal]),
    })
    if (!response.ok) throw new NodeCallError(await readError(node, response), false)
    return await firstBytes(node, response)
  } catch (thrown) {
    if (thrown instanceof NodeCallError) throw thrown
    if (options.signal.aborted) throw clientLeft()
    if (late.signal.aborted) {
      const seconds = options.firstByteTimeoutMs / 1000
      const message = `Node '${node.nodeId}' sent nothing within ${seconds} s. Try again, or ask for fewer tokens.`
      throw new NodeCallError(new AppError('deadline_exceeded', message, { cause: thrown }), false)
    }
    throw brokenOff(node, thrown)
  } finally {
    clearTimeout(timer)
  }
}

/**
 * The whole body of an answer.
 *
 * @throws NodeCallError like {@link callNode}.
 */
export async function readWhole(
  node: NodeAddress,
  answer: NodeAnswer,
  signal: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const { bytes: rest, cut } = await collect(answer.rest, MAX_ANSWER_BYTES)
    if (cut) throw new Error(`the answer is larger than ${MAX_ANSWER_BYTES} bytes`)
    const body = new Uint8Array(answer.first.byteLength + rest.byteLength)
    body.set(answer.first)
    body.set(rest, answer.first.byteLength)
    return body
  } catch (cause) {
    throw signal.aborted ? clientLeft() : brokenOff(node, cause)
  }
}

/** A connection to a node that broke before the answer was whole. */
export function brokenOff(node: NodeAddress, cause: unknown): NodeCallError {
  const message = `Node '${node.nodeId}' broke off before its answer was complete. Try again.`
  return new NodeCallError(new AppError('node_failed', message, { cause }), true)
}

/** Nobody waits for the answer any more. */
export function clientLeft(): NodeCallError {
  return new NodeCallError(new AppError('client_closed_request', 'The client left before the answer.'), false)
}

async function firstBytes(node: NodeAddress, response: Response): Promise<NodeAnswer> {
  if (!response.body) throw brokenOff(node, new Error('the answer has no body'))
  const reader = response.body.getReader()
  const { value } = await reader.read()
  reader.releaseLock()
  if (!value) throw brokenOff(node, new Error('the answer ended before its first byte'))
  return { headers: response.headers, first: value, rest: response.body }
}

async function readError(node: NodeAddress, response: Response): Promise<AppError> {
  const body = response.body ? await collect(response.body, MAX_ERROR_BYTES) : undefined
  const text = new TextDecoder().decode(body?.bytes)
  const error = parseErrorBody(jsonOrUndefined(text))
  if (!error || error.code === 'invalid_signature') {
    const reason = error
      ? `refused the gateway's signature: ${error.message}`
      : `answered HTTP ${response.status}.`
    return new AppError('node_failed', `Node '${node.nodeId}' ${reason}`, { cause: error ?? new Error(text) })
  }
  const retryAfterS = Number(response.headers.get('retry-after') ?? Number.NaN)
  return new AppError(error.code, error.message, {
    cause: error,
    ...(error.param === null ? {} : { param: error.param }),
    ...(retryAfterS > 0 ? { retryAfterS } : {}),
  })
}

function jsonOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
