import type { z } from 'zod'
import { AppError, parseErrorBody, type ErrorCode } from '@copal/shared/errors.ts'
import { heartbeatResponse, type Heartbeat, type HeartbeatResponse } from '@copal/shared/wire/heartbeat.ts'
import {
  keptResponse,
  settledReceipts,
  type CachedResponse,
  type ReceiptBatch,
} from '@copal/shared/wire/receipts.ts'
import { STATISTICS_MANIFEST } from '@copal/shared/wire/statistics-manifest.ts'
import { storedArtifact, storedFile } from '@copal/shared/wire/stored-file.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import { signedHeaders } from '@copal/shared/wire/signature.ts'
import { reasonOf } from '../../platform/log.ts'
import { sendMaskFile } from '../../model/mask-file/upload-parts.ts'

/** Kinds of files that the gateway stores by hash for nodes. */
type ArtifactKind = 'masks' | 'datasets'

/**
 * Makes the node's signed calls to the gateway. Every method throws an AppError: `no_node_available` when the gateway
 * cannot be reached or something else responds, `service_unavailable` when it reports a failure of its own (both `retryable`), otherwise the error
 * that it returned.
 */
export interface GatewayClient {
  /** @param timeoutMs without a response, the call fails after this time */
  heartbeat(beat: Heartbeat, timeoutMs?: number): Promise<HeartbeatResponse>
  receipts(batch: ReceiptBatch): Promise<void>
  /** Sends a streamed response for the response cache. */
  sendCachedResponse(response: CachedResponse): Promise<void>
  /**
   * Returns the bytes of a file as they arrive. They fail with `no_node_available` when none arrive for a while or they trickle, and
   * with `service_unavailable` when there are more than `maxBytes`. The caller checks the hash.
   */
  download(
    kind: ArtifactKind,
    sha256: string,
    maxBytes: number,
    signal?: AbortSignal,
  ): Promise<AsyncIterable<Uint8Array>>
  /** Streams a mask file from disk to the gateway, which checks its hash. */
  uploadMask(sha256: string, file: Blob, signal?: AbortSignal): Promise<void>
  /** Returns a file of a statistics artifact as {@link download} does: its manifest, or a piece by its SHA-256. */
  downloadStatistics(
    artifact: string,
    file: string,
    maxBytes: number,
    signal?: AbortSignal,
  ): Promise<AsyncIterable<Uint8Array>>
  /** Sends a file of a statistics artifact. The manifest comes last; the gateway then lists the artifact. */
  uploadStatistics(
    artifact: string,
    file: string,
    bytes: Blob,
    sha256: string,
    signal?: AbortSignal,
  ): Promise<void>
}

/** Time limit of a response, in addition to the transfer time of a body sent from memory. */
const RESPONSE_TIMEOUT_MS = 10_000
/** Slowest expected transfer of such a body and of a text, and slowest joining of parts in the gateway. */
const SLOWEST_BYTES_PER_MS = 1_000
/** Largest response to a heartbeat. A job with 40,000 datasets and their statistics has 8 MB. */
const MAX_HEARTBEAT_RESPONSE_BYTES = 64 * 1024 * 1024
/** Largest text of other responses, which are errors and acknowledgements. */
const MAX_TEXT_BYTES = 64 * 1024
/**
 * Time without progress after which a file transfer is aborted. Progress within the system's buffers, which hold megabytes, is not
 * visible.
 */
const STALL_TIMEOUT_MS = 60_000
/** Slowest download of a file, 128 kbit/s, once the stall timeout has passed. */
const SLOWEST_DOWNLOAD_BYTES_PER_MS = 16

/** Creates the client of the gateway at `baseUrl` (`http://127.0.0.1:8787`). */
export function createGatewayClient(deps: {
  baseUrl: string
  nodeId: string
  secret: string
  /** Headers sent with every call, for a proxy in front of the gateway. */
  headers?: Readonly<Record<string, string>>
  nowMs?: () => number
  /** For tests: see {@link sendMaskFile}. */
  maskPartBytes?: number
  /** For tests. */
  stallTimeoutMs?: number
}): GatewayClient {
  const nowMs = deps.nowMs ?? Date.now
  const stallTimeoutMs = deps.stallTimeoutMs ?? STALL_TIMEOUT_MS
  const base = new URL(deps.baseUrl.endsWith('/') ? deps.baseUrl : `${deps.baseUrl}/`)

  let lastMs = -Infinity
  let callsInMs = 0
  /** Returns the time to sign with. Equal calls within a millisecond would have one signature, which is accepted once. */
  const signingTime = (): number => {
    const atMs = Math.floor(nowMs())
    callsInMs = atMs === lastMs ? callsInMs + 1 : 0
    lastMs = atMs
    return atMs + callsInMs
  }

  async function call(outgoing: GatewayCall): Promise<Response> {
    const { method, path, signed, headers, deadline, signal, ...sent } = outgoing
    const url = new URL(path.slice(1), base)
    const { nodeId } = deps
    const request = { nodeId, to: 'gateway', method, path: url.pathname + url.search, ...signed } as const
    const signing = await signedHeaders(deps.secret, request, signingTime())
    let response: Response
    try {
      response = await fetch(url, {
        method,
        headers: { ...deps.headers, ...signing, ...headers },
        ...sent,
        // The gateway never redirects. Another server must not get the headers, which may have a secret, and its page is no reply.
        redirect: 'manual',
        signal: signal ? AbortSignal.any([signal, deadline.signal]) : deadline.signal,
      })
    } catch (cause) {
      signal?.throwIfAborted()
      throw unreachable(base, cause)
    } finally {
      // The reader of the body has its own deadline.
      deadline.end()
    }
    if (response.ok) return response
    const text = await textOf(response).catch(() => '')
    throw responseError(base, `${method} ${path}`, response, text)
  }

  /** Reads the text of a response, with a stall limit no longer than its time limit. Transfer time is added to that. */
  async function textOf(
    response: Response,
    { maxBytes = MAX_TEXT_BYTES, timeoutMs = RESPONSE_TIMEOUT_MS } = {},
  ): Promise<string> {
    const pace = {
      stallTimeoutMs: Math.min(stallTimeoutMs, timeoutMs),
      timeoutMs,
      bytesPerMs: SLOWEST_BYTES_PER_MS,
    }
    const pieces = atMost(bodyChunks(base, response, pace), maxBytes, () => noGateway(base, response))
    let text = ''
    const decoder = new TextDecoder()
    for await (const piece of pieces) text += decoder.decode(piece, { stream: true })
    return text + decoder.decode()
  }

  /** Requires a response of the gateway itself: a page of another server means that nothing was stored or settled. */
  async function acknowledged(response: Response, schema: z.ZodType): Promise<void> {
    const value = jsonOrUndefined(await textOf(response))
    if (!schema.safeParse(value).success) throw noGateway(base, response)
  }

  async function get(
    path: string,
    maxBytes: number,
    signal?: AbortSignal,
  ): Promise<AsyncIterable<Uint8Array>> {
    const signed = { body: new Uint8Array() }
    const response = await call({ method: 'GET', path, signed, deadline: responseDeadline(0), signal })
    const pace = {
      stallTimeoutMs,
      timeoutMs: stallTimeoutMs,
      bytesPerMs: SLOWEST_DOWNLOAD_BYTES_PER_MS,
    }
    return atMost(bodyChunks(base, response, pace, signal), maxBytes, () => tooLong(base, path, maxBytes))
  }

  /** @param workBytes bytes that the gateway moves for the call, if not those of the body */
  function post(
    path: string,
    value: object,
    {
      workBytes,
      timeoutMs,
      signal,
    }: { workBytes?: number; timeoutMs?: number; signal?: AbortSignal | undefined } = {},
  ): Promise<Response> {
    const body = new TextEncoder().encode(JSON.stringify(value))
    const headers = { 'content-type': 'application/json' }
    const deadline = responseDeadline(workBytes ?? body.length, timeoutMs)
    return call({ method: 'POST', path, signed: { body }, headers, body, deadline, signal })
  }

  function put(path: string, file: Blob, bodySha256: string, signal?: AbortSignal): Promise<Response> {
    const deadline = startDeadline(stallTimeoutMs, 'progress')
    const body = withProgress(file, deadline.renew)
    const headers = { 'content-type': 'application/octet-stream', 'content-length': String(file.size) }
    const signed = { bodySha256 }
    return call({ method: 'PUT', path, signed, headers, body, duplex: 'half', deadline, signal })
  }

  return {
    async heartbeat(beat, timeoutMs = RESPONSE_TIMEOUT_MS) {
      const response = await post('/internal/nodes/heartbeat', beat, { timeoutMs })
      const maxBytes = MAX_HEARTBEAT_RESPONSE_BYTES
      const value = jsonOrUndefined(await textOf(response, { maxBytes, timeoutMs }))
      if (value === undefined) throw noGateway(base, response)
      return validate(heartbeatResponse, value)
    },
    async receipts(batch) {
      await acknowledged(await post('/internal/nodes/receipts', batch), settledReceipts)
    },
    async sendCachedResponse(response) {
      await acknowledged(await post('/internal/nodes/answers', response), keptResponse)
    },
    download: (kind, sha256, maxBytes, signal) => get(`/internal/${kind}/${sha256}`, maxBytes, signal),
    async uploadMask(sha256, file, signal) {
      const path = `/internal/masks/${sha256}`
      const stored = (response: Response) => acknowledged(response, storedFile)
      const sender = {
        whole: (whole: Blob) => put(path, whole, sha256, signal).then(stored),
        part: (bytes: Blob, hash: string) => put(`${path}/parts/${hash}`, bytes, hash, signal).then(stored),
        join: (parts: string[]) => post(path, { parts }, { workBytes: file.size, signal }).then(stored),
      }
      await sendMaskFile(file, sender, deps.maskPartBytes)
    },
    downloadStatistics: (artifact, file, maxBytes, signal) =>
      get(`/internal/statistics/${artifact}/${file}`, maxBytes, signal),
    async uploadStatistics(artifact, file, bytes, sha256, signal) {
      const response = await put(`/internal/statistics/${artifact}/${file}`, bytes, sha256, signal)
      await acknowledged(response, file === STATISTICS_MANIFEST ? storedArtifact : storedFile)
    },
  }
}

/** One call to the gateway. */
interface GatewayCall {
  method: 'GET' | 'POST' | 'PUT'
  path: string
  /** The body that the signature covers, or its hash. */
  signed: { body: Uint8Array<ArrayBuffer> } | { bodySha256: string }
  headers?: Record<string, string>
  body?: NonNullable<RequestInit['body']>
  duplex?: 'half'
  deadline: Deadline
  signal: AbortSignal | undefined
}

/** A time limit that aborts a call. */
interface Deadline {
  signal: AbortSignal
  /** Restarts the time limit, also after its end. */
  renew: () => void
  end: () => void
}

function startDeadline(timeoutMs: number, awaited: 'response' | 'progress'): Deadline {
  const late = new AbortController()
  const abort = () => late.abort(new Error(`no ${awaited} for ${Math.ceil(timeoutMs / 1000)} s`))
  let timer = setTimeout(abort, timeoutMs)
  const end = () => clearTimeout(timer)
  const renew = () => {
    end()
    timer = setTimeout(abort, timeoutMs)
  }
  return { signal: late.signal, renew, end }
}

function responseDeadline(bytes: number, timeoutMs = RESPONSE_TIMEOUT_MS): Deadline {
  return startDeadline(timeoutMs + bytes / SLOWEST_BYTES_PER_MS, 'response')
}

/** Streams a file, and calls `onPiece` for each piece that was read. */
function withProgress(file: Blob, onPiece: () => void): ReadableStream<Uint8Array> {
  const watch = new TransformStream<Uint8Array, Uint8Array>({
    transform(piece, controller) {
      onPiece()
      controller.enqueue(piece)
    },
  })
  return file.stream().pipeThrough(watch)
}

/** How slow a body may be. */
interface Pace {
  /** Longest time without a byte. */
  stallTimeoutMs: number
  /** The time for the whole body, to which the transfer at `bytesPerMs` is added. */
  timeoutMs: number
  bytesPerMs: number
}

/** Returns the bytes of a body as they arrive. The time that the caller takes for them does not count. */
async function* bodyChunks(
  base: URL,
  response: Response,
  pace: Pace,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  if (!response.body) return
  const deadline = startDeadline(pace.stallTimeoutMs, 'progress')
  let bytes = 0
  let waitedMs = 0
  try {
    const body = response.body.pipeThrough(new TransformStream(), { signal: deadline.signal })
    let waitingSinceMs = performance.now()
    for await (const chunk of body) {
      bytes += chunk.length
      waitedMs += performance.now() - waitingSinceMs
      if (waitedMs > pace.timeoutMs + bytes / pace.bytesPerMs)
        throw new Error('its response comes too slowly')
      deadline.end()
      yield chunk
      deadline.renew()
      waitingSinceMs = performance.now()
    }
  } catch (cause) {
    signal?.throwIfAborted()
    throw unreachable(base, cause)
  } finally {
    deadline.end()
  }
}

/** Passes bytes on, up to a number of them. */
async function* atMost(
  chunks: AsyncIterable<Uint8Array>,
  maxBytes: number,
  error: () => AppError,
): AsyncGenerator<Uint8Array> {
  let bytes = 0
  for await (const chunk of chunks) {
    bytes += chunk.length
    if (bytes > maxBytes) throw error()
    yield chunk
  }
}

function tooLong(base: URL, path: string, maxBytes: number): AppError {
  return new AppError(
    'service_unavailable',
    `The gateway at ${base.origin} sent more than the ${maxBytes} bytes that ${path} may have. It was damaged in storage or in transit. Try again.`,
  )
}

function unreachable(base: URL, cause: unknown): AppError {
  return new AppError(
    'no_node_available',
    `The gateway at ${base.origin} cannot be reached: ${reasonOf(cause)}`,
    { cause },
  )
}

function noGateway(base: URL, { status, headers }: Pick<Response, 'status' | 'headers'>): AppError {
  const type = headers.get('content-type') ?? 'no type'
  return new AppError(
    'no_node_available',
    `What answers at ${base.origin} is not a copal gateway: its response (HTTP ${status}, ${type}) is not one of a gateway. ` +
      'Check COPAL_GATEWAY_URL, and what is in front of it.',
  )
}

/** Statuses of what is in front of a gateway, such as a proxy or its sign-in page, unless they have the gateway's error body. */
const PROXY_STATUSES: readonly number[] = [401, 403, 502, 503, 504]

/** Converts an error response. Temporary failures are retryable whatever their body says; others keep the gateway's error. */
function responseError(
  base: URL,
  what: string,
  { status, headers }: Pick<Response, 'status' | 'headers'>,
  text: string,
): AppError {
  const error = parseErrorBody(jsonOrUndefined(text))
  const isRedirect = status >= 300 && status < 400
  const detail = isRedirect ? `, a redirect to ${withoutQuery(headers.get('location'))}` : ''
  const message = `The gateway at ${base.origin} answered ${what} with HTTP ${status}${error ? `: ${error.message}` : detail}`
  const fail = (code: ErrorCode) => new AppError(code, message, { cause: error })
  // The gateway was not reached, so nothing is known to be wrong with the call.
  if (!error && (isRedirect || PROXY_STATUSES.includes(status))) return fail('no_node_available')
  if (status >= 500 || status === 429) return fail('service_unavailable')
  return error ?? fail(status === 404 ? 'not_found' : 'invalid_request')
}

/** Returns an address for people, without what may be secret or long. */
function withoutQuery(location: string | null): string {
  return location?.replace(/[?#].*$/s, '') ?? 'nowhere'
}

function jsonOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
