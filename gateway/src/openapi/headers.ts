/** Request and response headers, as the OpenAPI document and the reference page describe them. */
import { domainName } from '@copal/shared/wire/inference-fields.ts'
import { schemaOf, type JsonSchema } from './openapi-schema.ts'

/** The description and schema of a header. */
export interface HeaderField {
  description: string
  /** The header is always present. */
  required?: true
  schema: JsonSchema
}

const TEXT: JsonSchema = { type: 'string' }

/** Headers of inference requests. */
export const REQUEST_HEADERS: Readonly<Record<string, HeaderField>> = {
  'x-copal-domain': {
    description:
      "The domain of the request. Default, and for a domain that belongs to another tenant: the key's default domain.",
    schema: schemaOf(domainName, 'input'),
  },
  'x-copal-sample': {
    description:
      "Whether the text of this request may be sampled. `true` has an effect only where the key's policy allows sampling; `false` always prevents it.",
    schema: { enum: ['true', 'false'] },
  },
  'x-copal-priority': {
    description: 'When all nodes are busy, `interactive` requests go first. Default: `interactive`.',
    schema: { enum: ['interactive', 'batch'] },
  },
  'x-copal-cache': {
    description:
      '`true`: use the cached response to an equal request of the same tenant under the same mask if there is one. ' +
      '`refresh`: generate a new response and cache it. Only requests that always give the same response are cached: ' +
      'temperature 0, a seed, or embeddings.',
    schema: { enum: ['true', 'refresh', 'false'] },
  },
  'x-copal-cache-ttl': {
    description:
      'Maximum age of a cached response, and how long a new one is cached, in seconds from 1 to 86400. Default: 3600.',
    schema: { type: 'integer', minimum: 1, maximum: 86_400 },
  },
}

/** Headers of every response, errors included. */
const REQUEST_ID: Readonly<Record<string, HeaderField>> = {
  'x-request-id': {
    description: 'Id of the request. Quote it when you report a problem.',
    required: true,
    schema: TEXT,
  },
}

const rateHeaders = (unit: 'requests' | 'tokens'): Record<string, HeaderField> => ({
  [`x-ratelimit-limit-${unit}`]: {
    description: `Limit on ${unit} a minute: the tighter one of the key's and the tenant's. Absent without a limit.`,
    schema: TEXT,
  },
  [`x-ratelimit-remaining-${unit}`]: { description: `Remaining ${unit} of this limit.`, schema: TEXT },
  [`x-ratelimit-reset-${unit}`]: {
    description: 'Time until the whole limit is available again: `120ms`, `7s`, `1m0s`.',
    schema: TEXT,
  },
})

const RATE_HEADERS = { ...rateHeaders('requests'), ...rateHeaders('tokens') }

/** The header `x-copal-node`. */
export const NODE_HEADER: HeaderField = { description: 'The node that ran the request.', schema: TEXT }

/** Headers of responses to inference requests. */
export const RESPONSE_HEADERS: Readonly<Record<string, HeaderField>> = {
  ...REQUEST_ID,
  'x-copal-mask': {
    description:
      'The mask version that generated the response; 0 is the dense model. Absent on a stream that waits long for its ' +
      'node: its events have the version in `system_fingerprint`.',
    schema: TEXT,
  },
  'x-copal-node': NODE_HEADER,
  'x-copal-domain': { description: 'The domain that the request was counted under.', schema: TEXT },
  'x-copal-cache': {
    description:
      'Present if the request has `x-copal-cache`: `hit` (then `age` is present too), `miss`, or `bypass` if the response is not cached.',
    schema: TEXT,
  },
  age: {
    description: 'Present on a cache `hit`: seconds since the response was generated.',
    schema: TEXT,
  },
  ...RATE_HEADERS,
}

/** All headers that error responses may have. */
export const ERROR_HEADERS = {
  ...REQUEST_ID,
  'www-authenticate': { description: 'Present on 401: `Bearer`.', required: true, schema: TEXT },
  'retry-after': {
    description:
      'Present on 429 and 503, and on a 500 or 502 that was not retried on another node: seconds to wait before retrying.',
    schema: TEXT,
  },
  'x-should-retry': {
    description: "`false` if retrying cannot succeed; OpenAI's clients then do not retry.",
    schema: TEXT,
  },
  ...RATE_HEADERS,
} satisfies Record<string, HeaderField>

/** Statuses of requests that were rejected before the limits of their key were checked. */
const BEFORE_LIMITS: readonly number[] = [401, 403, 413]

/**
 * Returns the headers of an error response.
 *
 * @param isGeneration whether the operation runs on a node
 */
export function errorHeaders(status: number, isGeneration: boolean): Record<string, HeaderField> {
  const mayWait = [429, 503, ...(isGeneration ? [500, 502] : [])].includes(status)
  return {
    ...REQUEST_ID,
    ...(status === 401 ? { 'www-authenticate': ERROR_HEADERS['www-authenticate'] } : {}),
    ...(mayWait ? { 'retry-after': ERROR_HEADERS['retry-after'] } : {}),
    ...(isGeneration && status === 429 ? { 'x-should-retry': ERROR_HEADERS['x-should-retry'] } : {}),
    ...(isGeneration && !BEFORE_LIMITS.includes(status) ? RATE_HEADERS : {}),
  }
}
