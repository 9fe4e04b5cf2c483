import { parseErrorBody } from '@copal/shared/errors.ts'
import { sendMaskFile } from '../masks/send-parts.ts'
import { refusedByApi } from './api-words.ts'
import { CliError } from './cli-error.ts'
import type { Connection } from './connection.ts'

/** Calls to the gateway, with its errors told as one line. Shapes of the answers are those of `wire/admin.ts`. */
export interface GatewayClient {
  /** A call to `/admin/…` with the admin key. */
  admin<T>(method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: unknown): Promise<T>
  /** Like `admin`, for an answer of newline-delimited JSON: each line as it comes. */
  adminLines<T>(path: string, body: unknown): AsyncGenerator<T>
  /** Like `admin`, for an answer that is a file named by its SHA-256: the bytes as they arrive, to be checked. */
  adminFile(path: string): Promise<{ sha256: string; chunks: AsyncIterable<Uint8Array> }>
  /** Sends a mask file to `/admin/masks/…` as it is read from disk. */
  adminUpload<T>(sha256: string, query: URLSearchParams, file: Blob): Promise<T>
  /** A call to `/v1/…` with the API key; the answer's body is still to be read. */
  api(
    method: 'GET' | 'POST',
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<Response>
}

/** @param signal ends the calls in flight when the user presses Ctrl-C. */
export function createGatewayClient(connection: Connection, signal?: AbortSignal): GatewayClient {
  const call = async (
    method: string,
    path: string,
    key: string,
    body: unknown,
    headers: Record<string, string> = {},
  ): Promise<Response> => {
    let response: Response
    try {
      response = await fetch(`${connection.origin}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${key}`,
          ...(body === undefined
            ? {}
            : { 'content-type': body instanceof Blob ? 'application/octet-stream' : 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: body instanceof Blob ? body : JSON.stringify(body) }),
        ...(signal ? { signal } : {}),
      })
    } catch (cause) {
      throw signal?.aborted ? interrupted(cause) : unreachable(connection.origin, cause)
    }
    if (!response.ok) throw await asError(response, `${method} ${path}`)
    return response
  }
  const adminKey = (): string => {
    if (connection.adminKey) return asHeader(connection.adminKey, 'admin key', 'COPAL_ADMIN_KEY')
    throw new CliError('no_credentials', 'No admin key is known for this gateway: set COPAL_ADMIN_KEY.')
  }
  const apiKey = (): string => {
    if (connection.apiKey) return asHeader(connection.apiKey, 'API key', 'COPAL_API_KEY')
    throw new CliError(
      'no_credentials',
      'No API key is known for this gateway: set COPAL_API_KEY (copal keys create makes one).',
    )
  }

  return {
    async admin<T>(method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: unknown) {
      return readJson<T>(await call(method, `/admin${path}`, adminKey(), body))
    },
    async *adminLines<T>(path: string, body: unknown) {
      const response = await call('POST', `/admin${path}`, adminKey(), body)
      for await (const line of readLines(response))
        if (line !== '') yield parseAnswer(line, response.url) as T
    },
    async adminFile(path) {
      const response = await call('GET', `/admin${path}`, adminKey(), undefined)
      const sha256 = (response.headers.get('etag') ?? '').replaceAll('"', '')
      return { sha256, chunks: readChunks(response) }
    },
    adminUpload<T>(sha256: string, query: URLSearchParams, file: Blob) {
      const path = `/admin/masks/${sha256}`
      const send = async <A>(method: 'PUT' | 'POST', to: string, body: unknown) =>
        readJson<A>(await call(method, to, adminKey(), body))
      return sendMaskFile<T>(file, {
        whole: (whole) => send('PUT', `${path}?${query.toString()}`, whole),
        part: (bytes, part) => send('PUT', `${path}/parts/${part}`, bytes),
        join: (parts) => send('POST', `${path}?${query.toString()}`, { parts }),
      })
    },
    api: (method, path, body, headers) => call(method, `/v1${path}`, apiKey(), body, headers),
  }
}

/** A key as a header carries it, which would say no more than that the call failed. */
function asHeader(key: string, what: string, variable: string): string {
  const trimmed = key.trim()
  if (/^[\x20-\x7e]+$/.test(trimmed)) return trimmed
  const message = `The ${what} has a character that no key has. Copy it to ${variable} again.`
  throw new CliError('no_credentials', message)
}

/** The lines of a streamed body, without their ends. */
export async function* readLines(response: Response): AsyncGenerator<string> {
  if (response.body === null) return
  let rest = ''
  try {
    for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
      const lines = `${rest}${text}`.split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) yield line.replace(/\r$/, '')
    }
  } catch (cause) {
    throw broken(cause)
  }
  if (rest !== '') yield rest
}

async function* readChunks(response: Response): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of response.body ?? []) yield chunk
  } catch (cause) {
    throw broken(cause)
  }
}

/**
 * The whole of an answer; one without a body is undefined.
 *
 * @throws CliError `unexpected_answer` it is no JSON, `stream_broken`
 */
export async function readJson<T>(response: Response): Promise<T> {
  const text = await readText(response)
  return (text === '' ? undefined : parseAnswer(text, response.url)) as T
}

/** Whatever else listens there may answer too. */
function parseAnswer(text: string, url: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    const message = `What answers at ${url} is no copal gateway: it sent no JSON. Check COPAL_BASE_URL.`
    throw new CliError('unexpected_answer', message, { cause })
  }
}

async function readText(response: Response): Promise<string> {
  try {
    return await response.text()
  } catch (cause) {
    throw broken(cause)
  }
}

function broken(cause: unknown): CliError {
  if (cause instanceof Error && cause.name === 'AbortError') return interrupted(cause)
  return new CliError(
    'stream_broken',
    'The connection to the gateway broke before the answer was complete.',
    {
      cause,
    },
  )
}

function interrupted(cause: unknown): CliError {
  return new CliError('interrupted', 'Interrupted.', { cause })
}

/** On this machine one starts the gateway; one that is elsewhere was deployed. */
function unreachable(origin: string, cause: unknown): CliError {
  const { hostname } = new URL(origin)
  const isHere = hostname === 'localhost' || hostname === '[::1]' || hostname.startsWith('127.')
  const advice = isHere
    ? 'Is it running? Start it with: npm start'
    : `Check COPAL_BASE_URL and the deployment: curl ${origin}/health`
  return new CliError('gateway_unreachable', `No gateway answers at ${origin}. ${advice}`, { cause })
}

async function asError(response: Response, call: string): Promise<CliError> {
  const text = await readText(response)
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    body = undefined
  }
  const error = parseErrorBody(body)
  if (error) return refusedByApi(error)
  const excerpt = text.trim().split('\n')[0]?.slice(0, 200)
  return new CliError(
    'unexpected_answer',
    `${call} was answered with status ${response.status}${excerpt ? `: ${excerpt}` : ''}.`,
  )
}
