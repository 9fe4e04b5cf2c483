import { AppError, parseErrorBody, type ErrorCode } from '@copal/shared/errors.ts'
import { LATE_HEADER, MAX_RESPONSE_BYTES } from '@copal/shared/wire/node-calls.ts'
import { signedHeaders } from '@copal/shared/wire/signature.ts'
import { isCallsUsedUp } from '../../calls/call-budget.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { Alarms } from '../../runtime/alarms.ts'
import { collectBytes } from '../../runtime/collect-bytes.ts'
import { retryAfterSeconds } from '@copal/shared/retry-after.ts'
import type { FailedAttempt } from '../../contracts/acquire.ts'
import { firstError, maskOfComments } from './first-event.ts'

/** The maximum number of bytes read of a node's error response. */
const MAX_ERROR_BYTES = 64 * 1024

/**
 * How long comments before the first event are held back, while a request waits on its node or is prefilled. Until then
 * the request can still fail and be retried before the client has received anything.
 */
const COMMENT_HOLD_MS = 10_000

/** Errors that are a fault of the node. */
const FAULTS: ReadonlySet<ErrorCode> = new Set(['node_failed', 'invalid_output', 'internal_error'])
const COLON = 0x3a
/** A comment, or a field of an event. */
const EVENT_STARTS = [':', 'data:', 'event:']
const WHOLE_COMMENTS = /^(:[^\n]*\n\n)+$/

/** The id and the URL of a node. */
export interface NodeAddress {
  nodeId: string
  url: string
}

/** An error of a call to a node; `how` classifies the failure. */
export class NodeCallError extends Error {
  override readonly name = 'NodeCallError'
  readonly error: AppError
  readonly how: FailedAttempt['how']

  constructor(error: AppError, how: FailedAttempt['how']) {
    super(error.message, { cause: error })
    this.error = error
    this.how = how
  }
}

/** Options of a call. */
export interface NodeCallOptions {
  /** Ends the call and its body. If its reason is a NodeCallError, that is thrown. A call that fails or times out aborts it itself. */
  attempt: AbortController
  /** The timeout until the first byte that is no comment; if left out, the caller must abort `attempt`. */
  firstByte?: { timeoutMs: number; alarms: Alarms }
  headers?: Record<string, string>
  /** The expected content; if left out, it is not checked. */
  expected?: 'events' | 'json'
}

/** A successful response of a node whose first bytes have arrived. */
export interface NodeResponse {
  headers: Headers
  first: Uint8Array<ArrayBuffer>
  /** The bytes after `first`, as a native stream, so that piping it runs no JavaScript. Null if there are none. */
  rest: ReadableStream<Uint8Array> | null
}

/**
 * Makes one signed call to a node and waits for the first bytes of its response, so that a failure before them can be
 * retried on another node.
 *
 * @throws NodeCallError with `client_closed_request` if `attempt` was aborted, `deadline_exceeded` if no byte arrived in
 * time, `node_failed` if the connection broke, or the error that the node returned; CallsUsedUp if the event may make no more calls
 */
export async function callNode(
  deps: Pick<Deps, 'nodeSecrets' | 'nodeFetch' | 'nowMs'>,
  node: NodeAddress,
  path: string,
  value: unknown,
  options: NodeCallOptions,
): Promise<NodeResponse> {
  const url = new URL(node.url.replace(/\/+$/, '') + path)
  const body = new Uint8Array(new TextEncoder().encode(JSON.stringify(value)))
  const { nodeId } = node
  const signed = { nodeId, to: 'node', method: 'POST', path: url.pathname + url.search, body } as const
  const [secret] = await deps.nodeSecrets(nodeId)
  const { attempt, firstByte } = options
  const cancel = firstByte?.alarms.after(firstByte.timeoutMs, () =>
    attempt.abort(noResponseInTime(node, firstByte.timeoutMs)),
  )
  try {
    const fetched = await deps.nodeFetch(url, {
      method: 'POST',
      headers: {
        ...options.headers,
        'content-type': 'application/json',
        ...(await signedHeaders(secret, signed, deps.nowMs())),
      },
      body,
      // Never follow a redirect: the request and its signature are for this node only.
      redirect: 'manual',
      signal: attempt.signal,
    })
    if (!fetched.ok) throw await readError(node, fetched)
    const response =
      options.expected === 'json' && isBufferable(fetched)
        ? await readWholeBody(node, fetched)
        : await readFirstBytes(node, fetched)
    if (options.expected && !hasExpectedType(response, options.expected)) throw invalidResponse(node)
    if (options.expected === 'events') await checkFirstEvent(response)
    return response
  } catch (thrown) {
    // Nothing was sent, and no node is at fault.
    if (isCallsUsedUp(thrown)) throw thrown
    const error = errorOf(node, thrown, attempt.signal)
    // A response that nobody reads would keep its node busy, to its last token.
    attempt.abort(error)
    throw error
  } finally {
    cancel?.()
  }
}

function errorOf(node: NodeAddress, thrown: unknown, signal: AbortSignal): NodeCallError {
  if (thrown instanceof NodeCallError) return thrown
  return signal.aborted ? abortError(signal) : connectionLost(node, thrown)
}

/**
 * Checks the first event of a stream.
 *
 * @throws NodeCallError if it is an error: the client has received nothing yet
 */
async function checkFirstEvent({ first, rest }: NodeResponse): Promise<void> {
  const text = new TextDecoder().decode(first.subarray(0, MAX_ERROR_BYTES))
  const error = firstError(text)
  if (!error) return
  await rest?.cancel().catch(() => undefined)
  throw nodeError(error, Number.NaN)
}

/** Returns whether a response has the expected content type and begins like it; only its first bytes are checked. */
function hasExpectedType({ headers, first }: NodeResponse, expected: 'events' | 'json'): boolean {
  const type = headers.get('content-type') ?? ''
  const text = String.fromCharCode(...first.subarray(0, 64))
  // The first bytes may be fewer than those of a field's name.
  const isEvent = EVENT_STARTS.some((start) => text.startsWith(start) || start.startsWith(text))
  return expected === 'events'
    ? type.startsWith('text/event-stream') && isEvent
    : type.startsWith('application/json') && /^\s*(\{|$)/.test(text)
}

function invalidResponse({ nodeId }: NodeAddress): NodeCallError {
  const message = `Node '${nodeId}' returned an invalid response. Try again; check that its URL points at a copal node.`
  return new NodeCallError(new AppError('node_failed', message), 'failed')
}

/** Creates the error of a node that sent nothing in time. */
export function noResponseInTime({ nodeId }: NodeAddress, afterMs: number): NodeCallError {
  const message = `Node '${nodeId}' sent nothing within ${afterMs / 1000} s. Try again.`
  return new NodeCallError(new AppError('deadline_exceeded', message), 'failed')
}

/** Creates the error of a connection that broke before the response was complete. */
export function connectionLost(node: NodeAddress, cause: unknown): NodeCallError {
  const message = `The connection to node '${node.nodeId}' broke before its response was complete. Try again.`
  return new NodeCallError(new AppError('node_failed', message, { cause }), 'broke')
}

/** Returns the error of an aborted call: the signal's reason if that is a NodeCallError, otherwise that the client left. */
export function abortError(signal: AbortSignal): NodeCallError {
  if (signal.reason instanceof NodeCallError) return signal.reason
  return new NodeCallError(
    new AppError('client_closed_request', 'The client disconnected before the response.'),
    'ended',
  )
}

/** Returns whether a response declares a length that may be buffered, and is not late. */
function isBufferable({ headers }: Response): boolean {
  const declared = headers.get('content-length')
  return declared !== null && Number(declared) <= MAX_RESPONSE_BYTES && !headers.has(LATE_HEADER)
}

/** Reads a whole body by the runtime, which costs less than a JavaScript loop over its chunks. */
async function readWholeBody(node: NodeAddress, response: Response): Promise<NodeResponse> {
  const first = new Uint8Array(await response.arrayBuffer())
  if (first.byteLength === 0) throw connectionLost(node, new Error('the response has no body'))
  return { headers: response.headers, first, rest: null }
}

/** Reads the first chunk that is more than comments, or any chunk after the hold; a mask in a comment becomes a header. */
async function readFirstBytes(node: NodeAddress, response: Response): Promise<NodeResponse> {
  if (!response.body) throw connectionLost(node, new Error('the response has no body'))
  const holdUntilMs = Date.now() + COMMENT_HOLD_MS
  const reader = response.body.getReader()
  const headers = new Headers(response.headers)
  for (;;) {
    const { value } = await reader.read()
    if (!value) throw connectionLost(node, new Error('the response ended before its first byte'))
    const beginning = value[0] === COLON ? new TextDecoder().decode(value.subarray(0, MAX_ERROR_BYTES)) : ''
    const mask = headers.has(LATE_HEADER) ? maskOfComments(beginning) : undefined
    if (mask !== undefined) headers.set('x-copal-mask', mask)
    // A chunk may end anywhere, also within a comment or the first event: what is not complete must not be dropped.
    if (WHOLE_COMMENTS.test(beginning) && Date.now() < holdUntilMs) continue
    reader.releaseLock()
    return { headers, first: value, rest: response.body }
  }
}

async function readError(node: NodeAddress, response: Response): Promise<NodeCallError> {
  const body = response.body ? await collectBytes(response.body, MAX_ERROR_BYTES) : undefined
  const text = new TextDecoder().decode(body?.bytes)
  const error = parseErrorBody(parseJson(text))
  if (!error || error.code === 'invalid_signature') {
    const reason = error
      ? `rejected the gateway's signature: ${error.message}`
      : `returned HTTP ${response.status}.`
    const message = `Node '${node.nodeId}' ${reason}`
    return new NodeCallError(
      new AppError('node_failed', message, { cause: error ?? new Error(text) }),
      'failed',
    )
  }
  return nodeError(error, Number(response.headers.get('retry-after') ?? Number.NaN))
}

/** Creates the error of a call to which a node responded with an error. */
export function nodeError(error: AppError, retryAfterS: number): NodeCallError {
  const forwarded = new AppError(error.code, error.message, {
    cause: error,
    ...(error.param === null ? {} : { param: error.param }),
    ...(retryAfterS > 0 ? { retryAfterS: retryAfterSeconds(retryAfterS * 1000) } : {}),
  })
  // An error that names a field is about a part of the node that only some requests need, like the schemas to compile.
  const isFull = (error.code === 'overloaded' && error.param === null) || error.code === 'no_node_available'
  const isFault = FAULTS.has(error.code)
  return new NodeCallError(forwarded, isFull ? 'full' : isFault ? 'failed' : 'refused')
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
