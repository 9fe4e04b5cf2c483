/** Calls of the admin API with the cookie of the session. */
import type { CSRF_HEADER } from '@copal/shared/wire/admin-session.ts'

/** Name of the header with the session's token, as the wire schema has it; naming its type keeps zod out of the build. */
const csrfHeader: typeof CSRF_HEADER = 'x-copal-csrf'

/** The path of a `GET` whose response has type `T`. */
export interface Endpoint<T> {
  path: string
  /** Only carries the type; never set. */
  readonly response?: T
}

/** Names a `GET`; query parameters that are undefined are left out. */
export function endpoint<T>(
  path: string,
  query: Readonly<Record<string, string | number | undefined>> = {},
): Endpoint<T> {
  const params = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) params.set(name, String(value))
  }
  return { path: params.size > 0 ? `${path}?${params.toString()}` : path }
}

/** A call that failed. `status` is 0 when no response came. */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly status: number
  readonly code: string

  constructor(message: string, status: number, code: string) {
    super(message)
    this.status = status
    this.code = code
  }
}

/** Makes an {@link ApiError} of anything that was thrown. */
export function toApiError(cause: unknown): ApiError {
  if (cause instanceof ApiError) return cause
  return new ApiError(cause instanceof Error ? cause.message : String(cause), 0, 'unreachable')
}

/** Dependencies of a client. */
export interface ClientDeps {
  fetch: (path: string, init: RequestInit) => Promise<Response>
  /** The token of the session; `undefined` before sign-in. */
  csrf: () => string | undefined
  /** Called when the service does not accept the session any more. */
  onSignedOut: () => void
}

/** The methods of calls that change something. */
export type ChangingMethod = 'POST' | 'PUT' | 'PATCH' | 'DELETE'

/** Calls the gateway. Every method throws {@link ApiError}. */
export interface Client {
  get: <T>(endpoint: Endpoint<T>) => Promise<T>
  /** Calls something that changes state, with the session's token. */
  send: <T>(method: ChangingMethod, path: string, body?: unknown) => Promise<T>
  /** As `send`, for responses that are streamed. The response has status 2xx. */
  open: (
    method: ChangingMethod,
    path: string,
    body: unknown,
    options?: { signal?: AbortSignal; headers?: Readonly<Record<string, string>> },
  ) => Promise<Response>
}

/** Creates a client. */
export function createClient({ fetch, csrf, onSignedOut }: ClientDeps): Client {
  async function call(path: string, init: RequestInit): Promise<Response> {
    let response: Response
    try {
      response = await fetch(path, { ...init, credentials: 'same-origin' })
    } catch (cause) {
      if (cause instanceof DOMException && cause.name === 'AbortError') throw cause
      throw new ApiError('The gateway cannot be reached. Check that it runs.', 0, 'unreachable')
    }
    if (response.ok) return response
    const error = await readError(response)
    // Below `/v1` it means that no key is named which is charged.
    if (error.status === 401 && !path.startsWith('/v1/')) onSignedOut()
    throw error
  }

  function change(
    method: ChangingMethod,
    path: string,
    body: unknown,
    { signal, headers: more }: { signal?: AbortSignal; headers?: Readonly<Record<string, string>> } = {},
  ) {
    const headers: Record<string, string> = { accept: 'application/json', ...more }
    const token = csrf()
    if (token !== undefined) headers[csrfHeader] = token
    if (body !== undefined) headers['content-type'] = 'application/json'
    return call(path, {
      method,
      headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal ? { signal } : {}),
    })
  }

  return {
    get: async <T>({ path }: Endpoint<T>) =>
      readJson<T>(await call(path, { headers: { accept: 'application/json' } })),
    send: async <T>(method: ChangingMethod, path: string, body?: unknown) =>
      readJson<T>(await change(method, path, body)),
    open: change,
  }
}

async function readJson<T>(response: Response): Promise<T> {
  const text = await response.text()
  try {
    return (text === '' ? {} : JSON.parse(text)) as T
  } catch {
    throw new ApiError('The gateway sent a response that is not JSON.', response.status, 'invalid_response')
  }
}

/** Reads the error `{error: {message, code}}` of a response, whatever it is. */
async function readError(response: Response): Promise<ApiError> {
  const fallback = `The gateway responded ${response.status} ${response.statusText}`.trim()
  try {
    const body = (await response.json()) as { error?: { message?: unknown; code?: unknown } }
    const { message, code } = body.error ?? {}
    return new ApiError(
      typeof message === 'string' ? message : `${fallback}.`,
      response.status,
      typeof code === 'string' ? code : 'unknown',
    )
  } catch {
    return new ApiError(`${fallback}.`, response.status, 'unknown')
  }
}
