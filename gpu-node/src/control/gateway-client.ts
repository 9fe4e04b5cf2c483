import { AppError, parseErrorBody } from '@copal/shared/errors.ts'
import {
  heartbeatAnswer,
  type Heartbeat,
  type HeartbeatAnswer,
  type KeptAnswer,
  type ReceiptBatch,
} from '@copal/shared/wire/node-rpc.ts'
import { parse } from '@copal/shared/wire/parse.ts'
import { sign, SIGNATURE_HEADER } from '@copal/shared/wire/signature.ts'
import { reasonOf } from '../log.ts'
import { sendMaskFile } from '../masks/send-parts.ts'

/** What the gateway stores by hash for nodes. */
type ArtifactKind = 'masks' | 'datasets'

/**
 * The node's calls to the gateway, signed. Every method throws an AppError: `no_node_available` when the
 * gateway cannot be reached or is failing (`retryable`), else what the gateway answered.
 */
export interface GatewayClient {
  heartbeat(beat: Heartbeat): Promise<HeartbeatAnswer>
  receipts(batch: ReceiptBatch): Promise<void>
  /** A streamed answer to be kept. */
  keepAnswer(answer: KeptAnswer): Promise<void>
  /** The bytes of an artifact as they arrive; their hash is the caller's to check. */
  download(kind: ArtifactKind, sha256: string, signal?: AbortSignal): Promise<AsyncIterable<Uint8Array>>
  /** Sends a mask file as it is read from disk; the gateway checks that it has this hash. */
  uploadMask(sha256: string, file: Blob, signal?: AbortSignal): Promise<void>
}

/** How long the gateway may take to answer, beside what sending the body takes. */
const ANSWER_TIMEOUT_MS = 10_000
/** The slowest link that bodies are sent over. */
const SLOWEST_BYTES_PER_MS = 1_000

/** Composes the client of the gateway at `baseUrl` (`http://127.0.0.1:8787`). */
export function createGatewayClient(deps: {
  baseUrl: string
  secret: string
  /** Sent with every call, for what lies in front of the gateway. */
  headers?: Readonly<Record<string, string>>
  nowMs?: () => number
  /** For tests: see {@link sendMaskFile}. */
  maskPartBytes?: number
}): GatewayClient {
  const nowMs = deps.nowMs ?? Date.now
  const base = new URL(deps.baseUrl.endsWith('/') ? deps.baseUrl : `${deps.baseUrl}/`)

  async function call(
    method: 'GET' | 'POST' | 'PUT',
    path: string,
    content: { body: Uint8Array<ArrayBuffer> } | { file: Blob; bodySha256: string },
    signal?: AbortSignal,
  ): Promise<Response> {
    const url = new URL(path.slice(1), base)
    const signature = await sign(
      deps.secret,
      { method, path: url.pathname + url.search, ...content },
      nowMs(),
    )
    const body = 'body' in content ? content.body : content.file
    const sizeBytes = 'body' in content ? content.body.length : content.file.size
    const timeoutMs = ANSWER_TIMEOUT_MS + sizeBytes / SLOWEST_BYTES_PER_MS
    const slow = new AbortController()
    const timer = setTimeout(
      () => slow.abort(new Error(`no answer within ${Math.ceil(timeoutMs / 1000)} s`)),
      timeoutMs,
    )
    let response: Response
    try {
      response = await fetch(url, {
        method,
        headers: {
          ...deps.headers,
          [SIGNATURE_HEADER]: signature,
          ...(method === 'GET'
            ? {}
            : { 'content-type': method === 'PUT' ? 'application/octet-stream' : 'application/json' }),
        },
        ...(method === 'GET' ? {} : { body }),
        signal: signal ? AbortSignal.any([signal, slow.signal]) : slow.signal,
      })
    } catch (cause) {
      signal?.throwIfAborted()
      throw unreachable(base, cause)
    } finally {
      // A body takes as long as it takes.
      clearTimeout(timer)
    }
    if (response.ok) return response
    throw refusal(base, `${method} ${path}`, response.status, await response.text().catch(() => ''))
  }

  function post(path: string, value: object, signal?: AbortSignal): Promise<Response> {
    return call('POST', path, { body: new TextEncoder().encode(JSON.stringify(value)) }, signal)
  }

  return {
    async heartbeat(beat) {
      const response = await post('/internal/nodes/heartbeat', beat)
      const answer: unknown = await response.json().catch((cause: unknown) => {
        throw unreachable(base, cause)
      })
      return parse(heartbeatAnswer, answer)
    },
    async receipts(batch) {
      await drop(await post('/internal/nodes/receipts', batch))
    },
    async keepAnswer(answer) {
      await drop(await post('/internal/nodes/answers', answer))
    },
    async download(kind, sha256, signal) {
      const response = await call('GET', `/internal/${kind}/${sha256}`, { body: new Uint8Array() }, signal)
      return bodyChunks(base, response, signal)
    },
    async uploadMask(sha256, file, signal) {
      const path = `/internal/masks/${sha256}`
      const put = (to: string, part: Blob, bodySha256: string) =>
        call('PUT', to, { file: part, bodySha256 }, signal).then(drop)
      const sender = {
        whole: (whole: Blob) => put(path, whole, sha256),
        part: (bytes: Blob, hash: string) => put(`${path}/parts/${hash}`, bytes, hash),
        join: (parts: string[]) => post(path, { parts }, signal).then(drop),
      }
      await sendMaskFile(file, sender, deps.maskPartBytes)
    },
  }
}

async function drop(response: Response): Promise<void> {
  await response.body?.cancel()
}

async function* bodyChunks(base: URL, response: Response, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  if (!response.body) return
  try {
    for await (const chunk of response.body) yield chunk
  } catch (cause) {
    signal?.throwIfAborted()
    throw unreachable(base, cause)
  }
}

function unreachable(base: URL, cause: unknown): AppError {
  return new AppError(
    'no_node_available',
    `The gateway at ${base.origin} cannot be reached: ${reasonOf(cause)}`,
    { cause },
  )
}

/** Failures that may pass are retryable whatever their body says; the rest is what the gateway said. */
function refusal(base: URL, what: string, status: number, text: string): AppError {
  const error = parseErrorBody(jsonOrUndefined(text))
  const mayPass = status >= 500 || status === 429
  if (error && !mayPass) return error
  return new AppError(
    mayPass ? 'no_node_available' : status === 404 ? 'not_found' : 'invalid_request',
    `The gateway at ${base.origin} answered ${what} with HTTP ${status}${error ? `: ${error.message}` : ''}`,
    { cause: error },
  )
}

function jsonOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
