/**
 * Everything that can go wrong on purpose, with what each case means on the wire.
 *
 * `status` is the HTTP status, `type` the `error.type` of the OpenAI API, `retryable` whether the
 * same request may succeed later or on another node, `remedy` what who gets it can do.
 */
const ERROR_TABLE = {
  invalid_request: {
    status: 400,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'A field or header is not as expected: `param` names it, the message says what was expected.',
  },
  context_length_exceeded: {
    status: 400,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'Shorten the prompt, or ask for fewer tokens: together they do not fit the model.',
  },
  invalid_api_key: {
    status: 401,
    type: 'authentication_error',
    retryable: false,
    remedy: 'Send a key that is valid; this one is missing, unknown, revoked or expired.',
  },
  invalid_signature: {
    status: 401,
    type: 'authentication_error',
    retryable: false,
    remedy: 'Between gateway and nodes: compare their secrets and their clocks.',
  },
  insufficient_permissions: {
    status: 403,
    type: 'permission_error',
    retryable: false,
    remedy: 'Use a key that may do this; the message names the scope, model or domain.',
  },
  not_found: {
    status: 404,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'Check the path, or the id in it.',
  },
  model_not_found: {
    status: 404,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'Name a model, or weights of it, that `GET /v1/models` lists.',
  },
  method_not_allowed: {
    status: 405,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'Use a method that the header `allow` names.',
  },
  conflict: {
    status: 409,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'The state of things does not allow it now: the message says what is in the way.',
  },
  body_too_large: {
    status: 413,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'Send less; the message says how much is taken.',
  },
  mask_invalid: {
    status: 422,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'Make the mask file again: this one is damaged, or does not fit the model.',
  },
  mask_base_mismatch: {
    status: 422,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'Use a mask that was made for these dense weights.',
  },
  insufficient_samples: {
    status: 422,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'Wait for more sampled text in the domain, import texts, or ask for fewer samples.',
  },
  unsupported_model: {
    status: 422,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'Use a model whose files are whole and of a kind that nodes can serve.',
  },
  rate_limit_exceeded: {
    status: 429,
    type: 'rate_limit_error',
    retryable: true,
    remedy: 'A limit of the key or its tenant: try again after `retry-after`, or ask for fewer tokens.',
  },
  insufficient_quota: {
    status: 429,
    type: 'insufficient_quota',
    retryable: false,
    remedy: 'The tokens of the month are used up: wait for the next, or have the limit raised.',
  },
  overloaded: {
    status: 429,
    type: 'rate_limit_error',
    retryable: true,
    remedy: 'All nodes are busy: try again after `retry-after`.',
  },
  client_closed_request: {
    status: 499,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'The client left before the answer: nothing is to be done.',
  },
  internal_error: {
    status: 500,
    type: 'server_error',
    retryable: false,
    remedy: 'A defect, or a setting that is wrong: the log names the request by its `x-request-id`.',
  },
  node_failed: {
    status: 502,
    type: 'server_error',
    retryable: true,
    remedy: 'The node failed while it answered: try again.',
  },
  no_node_available: {
    status: 503,
    type: 'server_error',
    retryable: true,
    remedy: 'No node can answer now: try again after `retry-after`.',
  },
  service_unavailable: {
    status: 503,
    type: 'server_error',
    retryable: true,
    remedy:
      'The database, or another part of the gateway, does not answer now: try again after `retry-after`.',
  },
  deadline_exceeded: {
    status: 504,
    type: 'server_error',
    retryable: true,
    remedy: 'It took too long: try again, or ask for fewer tokens.',
  },
} as const

/** The closed set of error codes; also the `error.code` of the wire format. */
export type ErrorCode = keyof typeof ERROR_TABLE

/** An HTTP status that an {@link AppError} can carry. */
export type ErrorStatus = (typeof ERROR_TABLE)[ErrorCode]['status']

/** One of the error codes, as the API's documentation tells of it. */
export interface ErrorCase {
  code: ErrorCode
  status: ErrorStatus
  type: string
  retryable: boolean
  remedy: string
}

/** Every error code, by status. */
export const ERROR_CASES: readonly ErrorCase[] = Object.entries(ERROR_TABLE).map(([code, of]) => ({
  code: code as ErrorCode,
  ...of,
}))

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
    return ERROR_TABLE[this.code].status
  }

  get retryable(): boolean {
    return ERROR_TABLE[this.code].retryable
  }
}

/** The body of an error answer. */
export function errorBody(error: AppError): ErrorBody {
  return {
    error: {
      message: error.message,
      type: ERROR_TABLE[error.code].type,
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
  if (typeof code !== 'string' || !Object.hasOwn(ERROR_TABLE, code) || typeof message !== 'string')
    return undefined
  return new AppError(code as ErrorCode, message, typeof param === 'string' ? { param } : {})
}
