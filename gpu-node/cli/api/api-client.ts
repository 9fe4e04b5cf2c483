import { z } from 'zod'
import { parseErrorBody } from '@copal/shared/errors.ts'
import { storedPart } from '@copal/shared/wire/admin.ts'
import { firstError } from '@copal/shared/wire/validate.ts'
import { sendMaskFile } from '@copal/gpu-node/model/mask-file/upload-parts.ts'
import { toCommandError } from './command-wording.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import type { Connection } from './connection.ts'

/**
 * Calls to the gateway, with its errors told as one line. Whatever else listens at its address may answer too: what is not
 * of the schema that is given is no answer.
 */
export interface ApiClient {
  /** A call to `/admin/…` with the admin key. */
  admin<T>(
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    answer: z.ZodType<T>,
    body?: unknown,
  ): Promise<T>
  /** Like `admin`, for an answer of newline-delimited JSON: each line as it comes. */
  adminLines<T>(path: string, line: z.ZodType<T>, body: unknown): AsyncGenerator<T>
  /** Like `admin`, for an answer that is a file named by its SHA-256: the bytes as they arrive, to be checked. */
  adminFile(path: string): Promise<{ sha256: string; chunks: AsyncIterable<Uint8Array> }>
  /** Sends a mask file to `/admin/masks/…` as it is read from disk. */
  adminUpload<T>(sha256: string, query: URLSearchParams, answer: z.ZodType<T>, file: Blob): Promise<T>
  /** A call to `/v1/…` with the API key; the answer's body is still to be read. */
  api(
    method: 'GET' | 'POST',
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<Response>
}

/** @param signal ends the calls in flight when the user presses Ctrl-C. */
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
        // The gateway answers where it is; a page to log in at is no answer.
        redirect: 'manual',
        ...(signal ? { signal } : {}),
      })
    } catch (cause) {
      throw signal?.aborted ? interrupted(cause) : unreachable(connection.origin, cause)
    }
    if (!response.ok) throw await asError(response, method)
    return response
  }
  const adminKey = (): string => {
    if (connection.adminKey) return asHeader(connection.adminKey, 'admin key', 'COPAL_ADMIN_KEY')
    throw new UserError('no_credentials', 'No admin key is known for this gateway: set COPAL_ADMIN_KEY.')
  }
  const apiKey = (): string => {
    if (connection.apiKey) return asHeader(connection.apiKey, 'API key', 'COPAL_API_KEY')
    throw new UserError(
      'no_credentials',
      'No API key is known for this gateway: set COPAL_API_KEY (copal keys create makes one).',
    )
  }

  return {
    admin: async (method, path, answer, body) =>
      readJson(await call(method, `/admin${path}`, adminKey(), body), answer),
    async *adminLines(path, schema, body) {
      const response = await call('POST', `/admin${path}`, adminKey(), body)
      let isEmpty = true
      for await (const line of readLines(response)) {
        if (line === '') continue
        isEmpty = false
        yield parseAnswer(line, schema, response.url)
      }
      if (isEmpty) throw noGateway(response.url, '', '')
    },
    async adminFile(path) {
      const response = await call('GET', `/admin${path}`, adminKey(), undefined)
      const sha256 = (response.headers.get('etag') ?? '').replaceAll('"', '')
      if (!/^[0-9a-f]{64}$/.test(sha256))
        throw noGateway(response.url, await readBeginning(response), 'and no file with its hash')
      return { sha256, chunks: readChunks(response) }
    },
    adminUpload(sha256, query, answer, file) {
      const path = `/admin/masks/${sha256}`
      const send = async <A>(method: 'PUT' | 'POST', to: string, schema: z.ZodType<A>, body: unknown) =>
        readJson(await call(method, to, adminKey(), body), schema)
      return sendMaskFile(file, {
        whole: (whole) => send('PUT', `${path}?${query.toString()}`, answer, whole),
        part: (bytes, part) => send('PUT', `${path}/parts/${part}`, storedPart, bytes),
        join: (parts) => send('POST', `${path}?${query.toString()}`, answer, { parts }),
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
  throw new UserError('no_credentials', message)
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

/** What comes first of a body that may be long; the rest is left. */
async function readBeginning(response: Response): Promise<string> {
  for await (const chunk of readChunks(response)) return new TextDecoder().decode(chunk)
  return ''
}

/** A list as the API answers it. */
export const listOf = <T>(entry: z.ZodType<T>) => z.object({ data: z.array(entry) })

/**
 * The whole of an answer, with what it holds beyond the schema.
 *
 * @throws UserError `unexpected_answer` it is not of the schema, `stream_broken`
 */
export async function readJson<T>(response: Response, answer: z.ZodType<T>): Promise<T> {
  return parseAnswer(await readText(response), answer, response.url)
}

/** @throws UserError `unexpected_answer` */
export function parseAnswer<T>(text: string, answer: z.ZodType<T>, url: string): T {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw noGateway(url, text, 'which is no JSON')
  }
  const { error } = answer.safeParse(value)
  if (error) throw noGateway(url, text, `where ${firstError(error).message}`)
  return value as T
}

/** Something else answers; or a gateway that this command is too old or too new for. */
export function noGateway(url: string, text: string, why: string): UserError {
  const sent = text.trim() === '' ? 'nothing' : `'${excerptOf(text, 60)}', ${why}`
  return new UserError(
    'unexpected_answer',
    `What answers at ${url} is no copal gateway, or one of another version: it sent ${sent}. Check COPAL_BASE_URL.`,
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
    'The connection to the gateway broke before the answer was complete.',
    {
      cause,
    },
  )
}

function interrupted(cause: unknown): UserError {
  return new UserError('interrupted', 'Interrupted.', { cause })
}

/** On this machine one starts the gateway; one that is elsewhere was deployed. */
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
  const told = location === null ? excerptOf(text, 200) : `it is at ${location}`
  return new UserError(
    'unexpected_answer',
    `${method} ${response.url} was answered with status ${response.status}${told ? `: ${told.replace(/\.$/, '')}` : ''}. ` +
      'No copal gateway answers so: check COPAL_BASE_URL, and what stands in front of it.',
  )
}
