/** Headers beside the bodies, as the OpenAPI document and the reference page tell of them. */
import { domainName } from '@copal/shared/wire/inference-fields.ts'
import { schemaOf, type JsonSchema } from './schema.ts'

/** What a header says, and what it may hold. */
export interface HeaderField {
  description: string
  /** It is never left out. */
  required?: true
  schema: JsonSchema
}

const TEXT: JsonSchema = { type: 'string' }

/** Of inference requests. */
export const REQUEST_HEADERS: Readonly<Record<string, HeaderField>> = {
  'x-copal-domain': {
    description: "The domain of the request; left out: the key's default.",
    schema: schemaOf(domainName, 'input'),
  },
  'x-copal-sample': {
    description:
      "Whether the request's own text may be sampled: `true` where the key's policy allows it; `false` always wins.",
    schema: { enum: ['true', 'false'] },
  },
  'x-copal-priority': {
    description: 'When all nodes are busy, `interactive` requests go first; left out: `interactive`.',
    schema: { enum: ['interactive', 'batch'] },
  },
  'x-copal-cache': {
    description:
      '`true`: a kept answer to the same request, of the same tenant and mask, will do; `refresh`: make a new one and ' +
      'keep it. Only for requests that always get the same answer: temperature 0, a seed, or embeddings.',
    schema: { enum: ['true', 'refresh', 'false'] },
  },
  'x-copal-cache-ttl': {
    description:
      'How old such an answer may be and how long a new one is kept: seconds, 1 to 86400; left out: 3600.',
    schema: { type: 'integer', minimum: 1, maximum: 86_400 },
  },
}

/** Of every answer, errors too. */
const REQUEST_ID: Readonly<Record<string, HeaderField>> = {
  'x-request-id': {
    description: 'Names the request, for questions about it.',
    required: true,
    schema: TEXT,
  },
}

const rateHeaders = (unit: 'requests' | 'tokens'): Record<string, HeaderField> => ({
  [`x-ratelimit-limit-${unit}`]: {
    description: `Of ${unit} a minute, the tighter limit of key and tenant; only where there is one.`,
    schema: TEXT,
  },
  [`x-ratelimit-remaining-${unit}`]: { description: 'What is left of it.', schema: TEXT },
  [`x-ratelimit-reset-${unit}`]: {
    description: 'Until nothing of it is used: `120ms`, `7s`, `1m0s`.',
    schema: TEXT,
  },
})

const RATE_HEADERS = { ...rateHeaders('requests'), ...rateHeaders('tokens') }

/** `x-copal-node`. */
export const ANSWERING_NODE: HeaderField = { description: 'The node that answered.', schema: TEXT }

/** Of answers to inference requests. */
export const ANSWER_HEADERS: Readonly<Record<string, HeaderField>> = {
  ...REQUEST_ID,
  'x-copal-mask': {
    description:
      'The version of the weights that answered; 0 is dense. Left out of a stream that waits long for its node: its ' +
      'events have it in `system_fingerprint`.',
    schema: TEXT,
  },
  'x-copal-node': ANSWERING_NODE,
  'x-copal-domain': { description: 'The domain that the request was counted under.', schema: TEXT },
  'x-copal-cache': {
    description:
      'Of requests that have it: `hit`, with the `age` of the answer in seconds, `miss`, or `bypass` where nothing is kept.',
    schema: TEXT,
  },
  age: { description: 'Of a `hit`: seconds since the answer was made.', schema: TEXT },
  ...RATE_HEADERS,
}

/** All that errors may have. */
export const ERROR_HEADERS = {
  ...REQUEST_ID,
  'www-authenticate': { description: 'Of 401: `Bearer`.', required: true, schema: TEXT },
  'retry-after': {
    description:
      'Of 429 and 503, and of a 500 or 502 that no other node could mend: seconds to wait before trying again.',
    schema: TEXT,
  },
  'x-should-retry': {
    description: "`false` where trying again is in vain, as OpenAI's clients understand it.",
    schema: TEXT,
  },
  ...RATE_HEADERS,
} satisfies Record<string, HeaderField>

/** Statuses of requests that were refused before their key's limits were looked at. */
const BEFORE_LIMITS: readonly number[] = [401, 403, 413]

/**
 * Of an error with a status.
 *
 * @param ofGeneration whether a node shall answer
 */
export function errorHeaders(status: number, ofGeneration: boolean): Record<string, HeaderField> {
  const mayWait = [429, 503, ...(ofGeneration ? [500, 502] : [])].includes(status)
  return {
    ...REQUEST_ID,
    ...(status === 401 ? { 'www-authenticate': ERROR_HEADERS['www-authenticate'] } : {}),
    ...(mayWait ? { 'retry-after': ERROR_HEADERS['retry-after'] } : {}),
    ...(ofGeneration && status === 429 ? { 'x-should-retry': ERROR_HEADERS['x-should-retry'] } : {}),
    ...(ofGeneration && !BEFORE_LIMITS.includes(status) ? RATE_HEADERS : {}),
  }
}
