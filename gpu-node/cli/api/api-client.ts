import { z } from 'zod'
import { parseErrorBody } from '@copal/shared/errors.ts'
import { storedPart } from '@copal/shared/wire/admin.ts'
import { findError } from '@copal/shared/wire/validate.ts'
import { sendMaskFile } from '@copal/gpu-node/model/mask-file/upload-parts.ts'
import { toCommandError } from './command-wording.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import type { Connection } from './connection.ts'

/**
 * Calls of the gateway's API. Errors become a {@link UserError} of one line, and so does a response that does not match
 * the given schema: the server at that address may not be a copal gateway.
 */
export interface ApiClient {
  /** Calls `/admin/…` with the admin key. */
  admin<T>(
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    schema: z.ZodType<T>,
    body?: unknown,
  ): Promise<T>
  /** Like `admin`, for a response of newline-delimited JSON: yields each line as it arrives. */
  adminLines<T>(path: string, line: z.ZodType<T>, body: unknown): AsyncGenerator<T>
  /** Like `admin`, for a file that is named by its SHA-256. The caller checks the bytes against it. */
  adminFile(path: string): Promise<{ sha256: string; chunks: AsyncIterable<Uint8Array> }>
  /** Sends a mask file to `/admin/masks/…` as it is read from disk. */
  adminUpload<T>(sha256: string, query: URLSearchParams, schema: z.ZodType<T>, file: Blob): Promise<T>
  /** Calls `/v1/…` with the API key. The caller reads the response's body. */
  api(
    method: 'GET' | 'POST',
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<Response>
}

/**
 * Creates a client for one gateway.
 *
 * @param signal aborts the calls in flight when the user presses Ctrl-C
 */
export function createApiClient(connection: Connection, signal?: AbortSignal): ApiClient {
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
        // The gateway never redirects. Another server may redirect to a login page.
        redirect: 'manual',
        ...(signal ? { signal } : {}),
      })
    } catch (cause) {
      throw signal?.aborted ? interrupted(cause) : unreachable(connection.origin, cause)
    }
    if (!response.ok) throw await asError(response, method)
    return response
  }
  const noKey = (what: string, advice: string) =>
    new UserError('no_credentials', `No ${what} is known for the gateway at ${connection.origin}: ${advice}`)
  const adminKey = (): string => {
    if (connection.adminKey) return asHeader(connection.adminKey, 'admin key', 'COPAL_ADMIN_KEY')
    throw noKey('admin key', 'set COPAL_ADMIN_KEY.')
  }
  const apiKey = (): string => {
    if (connection.apiKey) return asHeader(connection.apiKey, 'API key', 'COPAL_API_KEY')
    throw noKey('API key', "set COPAL_API_KEY. 'npx copal keys create <name>' makes one.")
  }

  return {
    async admin(method, path, schema, body) {
      const response = await call(method, `/admin${path}`, adminKey(), body)
      const text = await readText(response)
      try {
        return parseResponse(text, schema, response.url)
      } catch (error) {
        const reason = mismatchOf(text, schema)
        if (reason === undefined || !(await isGateway(connection.origin, signal))) throw error
        throw otherVersion(connection.origin, `${method} /admin${path}`, reason)
      }
    },
    async *adminLines(path, schema, body) {
      const response = await call('POST', `/admin${path}`, adminKey(), body)
      let isEmpty = true
      for await (const line of readLines(response)) {
        if (line === '') continue
        isEmpty = false
        yield parseResponse(line, schema, response.url)
      }
      if (isEmpty) throw noGateway(response.url, '', '')
    },
    async adminFile(path) {
      const response = await call('GET', `/admin${path}`, adminKey(), undefined)
      const sha256 = (response.headers.get('etag') ?? '').replaceAll('"', '')
      if (!/^[0-9a-f]{64}$/.test(sha256))
        throw noGateway(response.url, await readFirstChunk(response), 'and no file with its hash')
      return { sha256, chunks: readChunks(response) }
    },
    adminUpload(sha256, query, schema, file) {
      const path = `/admin/masks/${sha256}`
      const send = async <A>(method: 'PUT' | 'POST', to: string, expected: z.ZodType<A>, body: unknown) =>
        readJson(await call(method, to, adminKey(), body), expected)
      return sendMaskFile(file, {
        whole: (whole) => send('PUT', `${path}?${query.toString()}`, schema, whole),
        part: (bytes, part) => send('PUT', `${path}/parts/${part}`, storedPart, bytes),
        join: (parts) => send('POST', `${path}?${query.toString()}`, schema, { parts }),
      })
    },
    api: (method, path, body, headers) => call(method, `/v1${path}`, apiKey(), body, headers),
  }
}

/** Returns a key as a header value. `fetch` would only report that the call failed. */
function asHeader(key: string, what: string, variable: string): string {
  const trimmed = key.trim()
  if (/^[\x20-\x7e]+$/.test(trimmed)) return trimmed
  const message = `The ${what} has a character that no key contains. Copy it to ${variable} again.`
  throw new UserError('no_credentials', message)
}

/** Yields the lines of a streamed body, without line ends. */
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

/** Returns the first chunk of a body that may be long, as text. */
async function readFirstChunk(response: Response): Promise<string> {
  for await (const chunk of readChunks(response)) return new TextDecoder().decode(chunk)
  return ''
}

/** Returns the schema of a list in the API's responses. */
export const listOf = <T>(entry: z.ZodType<T>) => z.object({ data: z.array(entry) })

/**
 * Reads a whole response, including fields that the schema does not name.
 *
 * @throws UserError `unexpected_answer` when it does not match the schema; `stream_broken`
 */
export async function readJson<T>(response: Response, schema: z.ZodType<T>): Promise<T> {
  return parseResponse(await readText(response), schema, response.url)
}

/**
 * Parses the text of a response.
 *
 * @throws UserError `unexpected_answer` when it does not match the schema
 */
export function parseResponse<T>(text: string, schema: z.ZodType<T>, url: string): T {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw noGateway(url, text, 'which is not JSON')
  }
  const error = findError(schema, value)
  if (error) throw noGateway(url, text, `where ${error.message}`)
  return value as T
}

/** Returns how JSON differs from a schema; undefined if it is none, or does not differ. */
function mismatchOf(text: string, schema: z.ZodType): string | undefined {
  try {
    return findError(schema, JSON.parse(text))?.message
  } catch {
    return undefined
  }
}

/** Returns whether a copal gateway answers at an address, of whatever version. */
async function isGateway(origin: string, signal: AbortSignal | undefined): Promise<boolean> {
  try {
    const response = await fetch(`${origin}/health`, { redirect: 'manual', ...(signal ? { signal } : {}) })
    return health.safeParse(await response.json()).success
  } catch {
    return false
  }
}

/** The response of a gateway's `/health`, in every version. */
const health = z.object({ status: z.string(), nodes_alive: z.number() })

function otherVersion(origin: string, call: string, reason: string): UserError {
  return new UserError(
    'other_version',
    `The gateway at ${origin} is of another version than this command: ${reason} in its response to ${call}. ` +
      "Update the older of the two: the gateway with 'npm start' or 'npm run deploy', this command with its checkout.",
  )
}

/** Creates the error for a response of another server, or of a gateway that is too old or too new for this command. */
export function noGateway(url: string, text: string, why: string): UserError {
  const sent = text.trim() === '' ? 'nothing' : `'${excerptOf(text, 60)}', ${why}`
  return new UserError(
    'unexpected_answer',
    `The server at ${url} is not a copal gateway, or it is one of another version: it sent ${sent}. Check COPAL_BASE_URL.`,
  )
}

function excerptOf(text: string, length: number): string {
  const line = text.trim().split('\n')[0] ?? ''
  return line.length > length ? `${line.slice(0, length)}…` : line
}

/** @throws UserError `stream_broken`, `interrupted` */
export async function readText(response: Response): Promise<string> {
  try {
    return await response.text()
  } catch (cause) {
    throw broken(cause)
  }
}

function broken(cause: unknown): UserError {
  if (cause instanceof Error && cause.name === 'AbortError') return interrupted(cause)
  return new UserError(
    'stream_broken',
    'The connection to the gateway broke before the response was complete.',
    {
      cause,
    },
  )
}

function interrupted(cause: unknown): UserError {
  return new UserError('interrupted', 'Interrupted.', { cause })
}

/**
 * Creates the error for a gateway that cannot be reached. On this machine it has to be started; elsewhere it was
 * deployed.
 */
function unreachable(origin: string, cause: unknown): UserError {
  const { hostname } = new URL(origin)
  const isHere = hostname === 'localhost' || hostname === '[::1]' || hostname.startsWith('127.')
  const advice = isHere
    ? 'Is it running? Start it with: npm start'
    : `Check COPAL_BASE_URL and the deployment: curl ${origin}/health`
  return new UserError('gateway_unreachable', `No gateway answers at ${origin}. ${advice}`, { cause })
}

async function asError(response: Response, method: string): Promise<UserError> {
  const text = await readText(response)
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    body = undefined
  }
  const error = parseErrorBody(body)
  if (error) return toCommandError(error)
  const location = response.headers.get('location')
  const detail = location === null ? excerptOf(text, 200) : `it redirects to ${location}`
  return new UserError(
    'unexpected_answer',
    `${method} ${response.url} returned status ${response.status}${detail ? `: ${detail.replace(/\.$/, '')}` : ''}. ` +
      'A copal gateway does not respond like this. Check COPAL_BASE_URL and any proxy in front of the gateway.',
  )
}
