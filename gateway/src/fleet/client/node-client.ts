import { AppError, parseErrorBody } from '@copal/shared/errors.ts'
import { LATE_HEADER, MAX_RESPONSE_BYTES } from '@copal/shared/wire/node-calls.ts'
import { signedHeaders } from '@copal/shared/wire/signature.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { Alarms } from '../../runtime/alarms.ts'
import { collectBytes } from '../../runtime/collect-bytes.ts'
import type { FailedAttempt } from '../../contracts/acquire.ts'
import { firstError, maskOf } from './first-event.ts'

/** Most that is read of a node's error answer. */
const MAX_ERROR_BYTES = 64 * 1024

/**
 * How long comments are held back that a node sends before the first event, while a request waits for its turn or is
 * prefilled: until then it can still fail without the client having seen anything of it.
 */
const HOLD_MS = 10_000

const COLON = 0x3a

/** Where a call goes. */
export interface NodeAddress {
  nodeId: string
  url: string
}

/** A call to a node failed; `how` says what that tells of the node, `worked` that the client owes what its receipt tells. */
export class NodeCallError extends Error {
  override readonly name = 'NodeCallError'
  readonly error: AppError
  readonly how: FailedAttempt['how']
  readonly worked: boolean

  constructor(error: AppError, how: FailedAttempt['how'], { worked = false } = {}) {
    super(error.message, { cause: error })
    this.error = error
    this.how = how
    this.worked = worked
  }
}

/** How a call is made. */
export interface NodeCallOptions {
  /** Ends the call and its body; a NodeCallError as its reason is what is thrown. A call that is late ends it itself. */
  attempt: AbortController
  /** How long the node may take until the first byte that is more than a comment; without it somebody else watches. */
  firstByte?: { timeoutMs: number; alarms: Alarms }
  headers?: Record<string, string>
  /** What the answer must be, to be taken for one; anything goes without it. */
  expected?: 'events' | 'json'
}

/** A node's successful answer, of which the first bytes have arrived. */
export interface NodeAnswer {
  headers: Headers
  first: Uint8Array<ArrayBuffer>
  /** What follows `first`; a native stream, so that piping it costs no JavaScript. Null when nothing does. */
  rest: ReadableStream<Uint8Array> | null
}

/**
 * Makes one signed call to a node and waits for the first bytes of its answer, so that everything that
 * fails before them can be tried elsewhere.
 *
 * @throws NodeCallError with `client_closed_request` when `attempt` was aborted, `deadline_exceeded` when no byte
 * came in time, `node_failed` when the connection broke, or the error that the node answered.
 */
export async function callNode(
  deps: Pick<Deps, 'nodeSecrets' | 'nodeFetch' | 'nowMs'>,
  node: NodeAddress,
  path: string,
  value: unknown,
  options: NodeCallOptions,
): Promise<NodeAnswer> {
  const url = new URL(node.url.replace(/\/+$/, '') + path)
  const body = new Uint8Array(new TextEncoder().encode(JSON.stringify(value)))
  const { nodeId } = node
  const signed = { nodeId, to: 'node', method: 'POST', path: url.pathname + url.search, body } as const
  const [secret] = await deps.nodeSecrets(nodeId)
  const { attempt, firstByte } = options
  const cancel = firstByte?.alarms.after(firstByte.timeoutMs, () =>
    attempt.abort(tooLate(node, firstByte.timeoutMs)),
  )
  try {
    const response = await deps.nodeFetch(url, {
      method: 'POST',
      headers: {
        ...options.headers,
        'content-type': 'application/json',
        ...(await signedHeaders(secret, signed, deps.nowMs())),
      },
      body,
      // Nodes answer where they are: the request and its signature go nowhere else.
      redirect: 'manual',
      signal: attempt.signal,
    })
    if (!response.ok) throw await readError(node, response)
    const answer =
      options.expected === 'json' && hasSmallLength(response)
        ? await allBytes(node, response)
        : await firstBytes(node, response)
    if (options.expected && !isExpected(answer, options.expected)) throw garbage(node)
    if (options.expected === 'events') await readFirstEvent(answer)
    return answer
  } catch (thrown) {
    if (thrown instanceof NodeCallError) throw thrown
    if (attempt.signal.aborted) throw whyAborted(attempt.signal)
    throw brokenOff(node, thrown)
  } finally {
    cancel?.()
  }
}

/**
 * Of an answer that is late sets the mask, where its first event is there.
 *
 * @throws NodeCallError where that is an error: nothing was made of the answer yet
 */
async function readFirstEvent({ headers, first, rest }: NodeAnswer): Promise<void> {
  const text = new TextDecoder().decode(first.subarray(0, MAX_ERROR_BYTES))
  const error = firstError(text)
  if (error) {
    await rest?.cancel().catch(() => undefined)
    throw answered(error, Number.NaN)
  }
  const mask = headers.has(LATE_HEADER) ? maskOf(text) : undefined
  if (mask !== undefined) headers.set('x-copal-mask', mask)
}

/** Looks at the beginning only: the rest passes unseen. */
function isExpected({ headers, first }: NodeAnswer, expected: 'events' | 'json'): boolean {
  const type = headers.get('content-type') ?? ''
  const text = String.fromCharCode(...first.subarray(0, 64))
  return expected === 'events'
    ? type.startsWith('text/event-stream') && /^(:|data:|event:)/.test(text)
    : type.startsWith('application/json') && /^\s*(\{|$)/.test(text)
}

function garbage({ nodeId }: NodeAddress): NodeCallError {
  const message = `Node '${nodeId}' answered what is no answer. Try again; what answers at its address may be no node.`
  return new NodeCallError(new AppError('node_failed', message), 'failed')
}

/** A node that sent nothing for too long. */
export function tooLate({ nodeId }: NodeAddress, afterMs: number): NodeCallError {
  const message = `Node '${nodeId}' sent nothing within ${afterMs / 1000} s. Try again.`
  return new NodeCallError(new AppError('deadline_exceeded', message), 'failed')
}

/** A connection to a node that broke before the answer was whole. */
export function brokenOff(node: NodeAddress, cause: unknown): NodeCallError {
  const message = `Node '${node.nodeId}' broke off before its answer was complete. Try again.`
  return new NodeCallError(new AppError('node_failed', message, { cause }), 'broke')
}

/** Nobody waits for the answer any more, unless the signal says otherwise. */
export function whyAborted(signal: AbortSignal): NodeCallError {
  if (signal.reason instanceof NodeCallError) return signal.reason
  return new NodeCallError(
    new AppError('client_closed_request', 'The client left before the answer.'),
    'refused',
    { worked: true },
  )
}

/** Whether an answer is no longer than it may be, and not one that was begun before it was there. */
function hasSmallLength({ headers }: Response): boolean {
  const declared = headers.get('content-length')
  return declared !== null && Number(declared) <= MAX_RESPONSE_BYTES && !headers.has(LATE_HEADER)
}

/** The runtime gathers a body at less cost than JavaScript does chunk by chunk. */
async function allBytes(node: NodeAddress, response: Response): Promise<NodeAnswer> {
  const first = new Uint8Array(await response.arrayBuffer())
  if (first.byteLength === 0) throw brokenOff(node, new Error('the answer has no body'))
  return { headers: response.headers, first, rest: null }
}

async function firstBytes(node: NodeAddress, response: Response): Promise<NodeAnswer> {
  if (!response.body) throw brokenOff(node, new Error('the answer has no body'))
  const heldUntilMs = Date.now() + HOLD_MS
  const reader = response.body.getReader()
  for (;;) {
    const { value } = await reader.read()
    if (!value) throw brokenOff(node, new Error('the answer ended before its first byte'))
    if (isComment(value) && Date.now() < heldUntilMs) continue
    reader.releaseLock()
    return { headers: new Headers(response.headers), first: value, rest: response.body }
  }
}

/** Whether there is nothing but a comment of server-sent events in a chunk. */
function isComment(chunk: Uint8Array): boolean {
  return chunk[0] === COLON && !new TextDecoder().decode(chunk).includes('\ndata:')
}

async function readError(node: NodeAddress, response: Response): Promise<NodeCallError> {
  const body = response.body ? await collectBytes(response.body, MAX_ERROR_BYTES) : undefined
  const text = new TextDecoder().decode(body?.bytes)
  const error = parseErrorBody(jsonOrUndefined(text))
  if (!error || error.code === 'invalid_signature') {
    const reason = error
      ? `refused the gateway's signature: ${error.message}`
      : `answered HTTP ${response.status}.`
    const message = `Node '${node.nodeId}' ${reason}`
    return new NodeCallError(
      new AppError('node_failed', message, { cause: error ?? new Error(text) }),
      'failed',
    )
  }
  return answered(error, Number(response.headers.get('retry-after') ?? Number.NaN))
}

/** An error that a node gave as its answer. */
export function answered(error: AppError, retryAfterS: number): NodeCallError {
  const again = new AppError(error.code, error.message, {
    cause: error,
    ...(error.param === null ? {} : { param: error.param }),
    ...(retryAfterS > 0 ? { retryAfterS } : {}),
  })
  const isFull = error.code === 'overloaded' || error.code === 'no_node_available'
  const isFault = error.code === 'node_failed' || error.code === 'internal_error'
  return new NodeCallError(again, isFull ? 'full' : isFault ? 'failed' : 'refused')
}

function jsonOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
