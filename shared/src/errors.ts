/**
 * Every expected failure.
 *
 * `status` is the HTTP status, `type` the `error.type` of the OpenAI API, `retryable` whether the same request may
 * succeed later or on another node, `remedy` the advice in the API's documentation.
 */
const ERROR_TABLE = {
  invalid_request: {
    status: 400,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'Correct the field or header that `param` names; the message says what was expected.',
  },
  context_length_exceeded: {
    status: 400,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'Shorten the prompt or request fewer tokens: together they exceed the context of the model.',
  },
  invalid_api_key: {
    status: 401,
    type: 'authentication_error',
    retryable: false,
    remedy: 'Send a valid key; this one is missing, unknown, revoked or expired.',
  },
  invalid_signature: {
    status: 401,
    type: 'authentication_error',
    retryable: false,
    remedy: 'Between gateway and nodes: check that their secrets match and their clocks agree.',
  },
  insufficient_permissions: {
    status: 403,
    type: 'permission_error',
    retryable: false,
    remedy: 'Use a key with the required permission; the message names the scope, model or domain.',
  },
  not_found: {
    status: 404,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'Check the path and the ids in it.',
  },
  model_not_found: {
    status: 404,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'Use a model name that `GET /v1/models` lists.',
  },
  method_not_allowed: {
    status: 405,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'Use one of the methods in the `allow` header.',
  },
  conflict: {
    status: 409,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'The current state does not allow this; the message says what to change first.',
  },
  body_too_large: {
    status: 413,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'Send a smaller body; the message states the limit.',
  },
  mask_invalid: {
    status: 422,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'Fetch or create the mask file again: this one is damaged or does not fit the model.',
  },
  gate_failed: {
    status: 422,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'The mask is worse than the policy allows; `GET /admin/updates/{id}` shows what was measured.',
  },
  mask_base_mismatch: {
    status: 422,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'Use a mask that was created for these dense weights.',
  },
  insufficient_samples: {
    status: 422,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'Wait for more sampled text in the domain, import texts, or request fewer samples.',
  },
  unsupported_model: {
    status: 422,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'Use a model whose files are complete and of a supported architecture and format.',
  },
  rate_limit_exceeded: {
    status: 429,
    type: 'rate_limit_error',
    retryable: true,
    remedy:
      'The key, its tenant or its network address reached a limit: retry after `retry-after`, or request fewer tokens.',
  },
  insufficient_quota: {
    status: 429,
    type: 'insufficient_quota',
    retryable: false,
    remedy: 'The monthly tokens are used up: wait for the next month, or have the limit raised.',
  },
  overloaded: {
    status: 429,
    type: 'rate_limit_error',
    retryable: true,
    remedy: 'All nodes are busy: retry after `retry-after`.',
  },
  client_closed_request: {
    status: 499,
    type: 'invalid_request_error',
    retryable: false,
    remedy: 'The client disconnected before the response: no action is needed.',
  },
  internal_error: {
    status: 500,
    type: 'server_error',
    retryable: false,
    remedy: 'A defect or a wrong setting: find the request in the log by its `x-request-id`.',
  },
  node_failed: {
    status: 502,
    type: 'server_error',
    retryable: true,
    remedy: 'The node failed while it processed the request: retry.',
  },
  invalid_output: {
    status: 502,
    type: 'server_error',
    retryable: true,
    remedy:
      'The weights of the node gave values that are not finite numbers: retry. If it repeats, the weights are damaged.',
  },
  no_node_available: {
    status: 503,
    type: 'server_error',
    retryable: true,
    remedy: 'No node can take the request now: retry after `retry-after`.',
  },
  service_unavailable: {
    status: 503,
    type: 'server_error',
    retryable: true,
    remedy: 'The database or another part of the gateway is unavailable: retry after `retry-after`.',
  },
  deadline_exceeded: {
    status: 504,
    type: 'server_error',
    retryable: true,
    remedy: 'The request timed out: retry, or request fewer tokens.',
  },
} as const

/** The closed set of error codes; also the `error.code` of the wire format. */
export type ErrorCode = keyof typeof ERROR_TABLE

/** An HTTP status that an {@link AppError} can carry. */
export type ErrorStatus = (typeof ERROR_TABLE)[ErrorCode]['status']

/** An error code with its properties, as the API's documentation shows it. */
export interface ErrorCase {
  code: ErrorCode
  status: ErrorStatus
  type: string
  retryable: boolean
  remedy: string
}

/** Every error code, by status. */
export const ERROR_CASES: readonly ErrorCase[] = Object.entries(ERROR_TABLE).map(([code, properties]) => ({
  code: code as ErrorCode,
  ...properties,
}))

/** An error response in the format of the OpenAI API. */
export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string }
}

/**
 * An expected failure. The message is written for the caller: what was wrong, what was expected, what to do. The caller
 * sees it unchanged, so it must never contain a secret or a stack trace.
 */
export class AppError extends Error {
  override readonly name = 'AppError'
  readonly code: ErrorCode
  /** The wrong request field, named as on the wire (`messages[0].content`). */
  readonly param: string | null
  /** Value of the `Retry-After` header, seconds. */
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

/** Returns the body of an error response. */
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

/** Converts anything thrown into an AppError; unknown causes become a plain 500 that leaks nothing. */
export function toAppError(thrown: unknown): AppError {
  if (thrown instanceof AppError) return thrown
  return new AppError('internal_error', 'Internal error. The cause is in the server log.', { cause: thrown })
}

/**
 * Rebuilds the AppError that another copal process sent as `body`.
 *
 * @returns `undefined` when `body` is not an error body of copal
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
