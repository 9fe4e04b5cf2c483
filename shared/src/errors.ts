/**
 * Everything that can go wrong on purpose, with what each case means on the wire.
 *
 * `status` is the HTTP status, `type` the `error.type` of the OpenAI API, `retryable` whether the
 * same request may succeed later or on another node.
 */
const CODES = {
  invalid_request: { status: 400, type: 'invalid_request_error', retryable: false },
  context_length_exceeded: { status: 400, type: 'invalid_request_error', retryable: false },
  invalid_api_key: { status: 401, type: 'authentication_error', retryable: false },
  invalid_signature: { status: 401, type: 'authentication_error', retryable: false },
  insufficient_permissions: { status: 403, type: 'permission_error', retryable: false },
  not_found: { status: 404, type: 'invalid_request_error', retryable: false },
  model_not_found: { status: 404, type: 'invalid_request_error', retryable: false },
  method_not_allowed: { status: 405, type: 'invalid_request_error', retryable: false },
  conflict: { status: 409, type: 'invalid_request_error', retryable: false },
  body_too_large: { status: 413, type: 'invalid_request_error', retryable: false },
  mask_invalid: { status: 422, type: 'invalid_request_error', retryable: false },
  mask_base_mismatch: { status: 422, type: 'invalid_request_error', retryable: false },
  insufficient_samples: { status: 422, type: 'invalid_request_error', retryable: false },
  unsupported_model: { status: 422, type: 'invalid_request_error', retryable: false },
  rate_limit_exceeded: { status: 429, type: 'rate_limit_error', retryable: true },
  insufficient_quota: { status: 429, type: 'insufficient_quota', retryable: false },
  overloaded: { status: 429, type: 'rate_limit_error', retryable: true },
  client_closed_request: { status: 499, type: 'invalid_request_error', retryable: false },
  internal_error: { status: 500, type: 'server_error', retryable: false },
  node_failed: { status: 502, type: 'server_error', retryable: true },
  no_node_available: { status: 503, type: 'server_error', retryable: true },
  service_unavailable: { status: 503, type: 'server_error', retryable: true },
  deadline_exceeded: { status: 504, type: 'server_error', retryable: true },
} as const

/** The closed set of error codes; also the `error.code` of the wire format. */
export type ErrorCode = keyof typeof CODES

/** An HTTP status that an {@link AppError} can carry. */
export type ErrorStatus = (typeof CODES)[ErrorCode]['status']

/** What clients of the OpenAI API read: `{error: {message, type, param, code}}`. */
export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string }
}

/**
 * An expected failure. The message is written for the caller: what was wrong, what was expected,
 * what to do. It is shown as it is, so it must never hold a secret or a stack.
 */
export class AppError extends Error {
  override readonly name = 'AppError'
  readonly code: ErrorCode
  /** The request field that was wrong, in the notation of the wire (`messages[0].content`). */
  readonly param: string | null
  /** Seconds for a `Retry-After` header. */
  readonly retryAfterS: number | undefined

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; param?: string; retryAfterS?: number } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.param = options.param ?? null
    this.retryAfterS = options.retryAfterS
  }

  get status(): ErrorStatus {
    return CODES[this.code].status
  }

  get retryable(): boolean {
    return CODES[this.code].retryable
  }
}

/** The body of an error answer. */
export function errorBody(error: AppError): ErrorBody {
  return {
    error: {
      message: error.message,
      type: CODES[error.code].type,
      param: error.param,
      code: error.code,
    },
  }
}

/** Anything thrown, as an AppError: unknown causes become a plain 500 that leaks nothing. */
export function toAppError(thrown: unknown): AppError {
  if (thrown instanceof AppError) return thrown
  return new AppError('internal_error', 'Internal error. The cause is in the server log.', { cause: thrown })
}

/**
 * Rebuilds the AppError that another copal process sent as `body`.
 *
 * @returns `undefined` when `body` is not an error body of ours.
 */
export function parseErrorBody(body: unknown): AppError | undefined {
  if (typeof body !== 'object' || body === null || !('error' in body)) return undefined
  const { error } = body
  if (typeof error !== 'object' || error === null) return undefined
  const { code, message, param } = error as Record<string, unknown>
  if (typeof code !== 'string' || !Object.hasOwn(CODES, code) || typeof message !== 'string') return undefined
  return new AppError(code as ErrorCode, message, typeof param === 'string' ? { param } : {})
}
