import { z } from 'zod'
import { safeParse, type $ZodType } from 'zod/v4/core'
import { domainName } from '@copal/shared/wire/generation.ts'
import { VERSION } from '../version.ts'
import { errorAnswer } from './answers.ts'
import type { NamedSchema, Operation } from './operation.ts'
import { OPERATIONS } from './operations.ts'

/** A JSON Schema, of draft 2020-12 as OpenAPI 3.1 has it. */
export interface JsonSchema {
  [keyword: string]: unknown
  properties?: Record<string, JsonSchema>
  required?: string[]
}

/** As much of an OpenAPI 3.1 document as this service has. */
export interface OpenApiDocument {
  openapi: '3.1.0'
  info: { title: string; version: string; description: string }
  security: Record<string, string[]>[]
  tags: { name: string }[]
  paths: Record<string, Record<string, object>>
  components: { schemas: Record<string, JsonSchema>; securitySchemes: Record<string, object> }
}

const DESCRIPTION =
  'An OpenAI-compatible text-generation service that keeps its own models pruned on live traffic. Any OpenAI client ' +
  'works with its base URL changed. Errors have the shape of `Error`; fields that are not listed are ignored.'

/** Headers that requests may have beside the body. */
const REQUEST_HEADERS = {
  'x-copal-domain': "The domain of the request; left out: the key's default.",
  'x-copal-sample':
    "Whether the request's own text may be sampled: `true` where the key's policy allows it; `false` always wins.",
  'x-copal-cache':
    "`true`: the same request's answer of before will do, if the tenant has one of the same mask; `refresh`: a new one shall " +
    'take its place. Only what gets the same answer again: temperature 0, a seed, or embeddings.',
  'x-copal-cache-ttl':
    'How old such an answer may be and how long a new one is kept: seconds, 1 to 86400; left out: 3600.',
}

/** What those of them may be that are not any text. */
const HEADER_SCHEMAS: Record<string, JsonSchema> = {
  'x-copal-domain': schemaOf(domainName, 'input'),
  'x-copal-sample': { enum: ['true', 'false'] },
  'x-copal-cache': { enum: ['true', 'refresh', 'false'] },
  'x-copal-cache-ttl': { type: 'integer', minimum: 1, maximum: 86_400 },
}

/** One of a stream: `data` is JSON as OpenAI's clients expect it, or `[DONE]`. */
const STREAMED_EVENT: JsonSchema = {
  type: 'object',
  description: "With `stream: true`: each of OpenAI's events.",
  properties: { event: { type: 'string' }, data: { type: 'string' } },
  required: ['data'],
}

const ANSWER_HEADERS = {
  'x-request-id': 'Names the request, for questions about it.',
  'x-copal-mask': 'The version of the weights that answered; 0 is dense.',
  'x-copal-node': 'The node that answered.',
  'x-copal-domain': 'The domain that the request was counted under.',
  'x-copal-cache':
    'Of requests that have it: `hit`, with the `age` of the answer in seconds, `miss`, or `bypass` where nothing is kept.',
}

/** The OpenAPI document, from the schemas that requests are checked by. Takes longer than a request: make it once. */
export function createDocument(): OpenApiDocument {
  const paths: OpenApiDocument['paths'] = {}
  for (const operation of OPERATIONS) (paths[operation.path] ??= {})[operation.method] = describe(operation)
  return {
    openapi: '3.1.0',
    info: { title: 'copal', version: VERSION, description: DESCRIPTION },
    security: [{ key: [] }],
    tags: [...new Set(OPERATIONS.map(({ tag }) => tag))].map((name) => ({ name })),
    paths,
    components: {
      schemas: components(),
      securitySchemes: {
        key: { type: 'http', scheme: 'bearer', description: 'An API key, or the admin key.' },
      },
    },
  }
}

function components(): OpenApiDocument['components']['schemas'] {
  const bodies = OPERATIONS.flatMap(({ body }) => body ?? [])
  const answers = OPERATIONS.flatMap(({ answer }) => (typeof answer === 'string' ? [] : answer))
  return {
    ...Object.fromEntries(bodies.map(({ name, schema }) => [name, schemaOf(schema, 'input')])),
    ...Object.fromEntries(answers.map(({ name, schema }) => [name, schemaOf(schema, 'output')])),
    Error: schemaOf(errorAnswer, 'output'),
  }
}

function schemaOf(schema: $ZodType, io: 'input' | 'output'): JsonSchema {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, reused: 'inline' })
  return rest as JsonSchema
}

function describe(operation: Operation): object {
  const { id, tag, summary, key, body, takesFile, answer, status = 200, streams } = operation
  const isInference = key === 'inference' && body !== undefined
  const content =
    typeof answer === 'string' ? { [mediaTypeOf(answer)]: { schema: anythingOf(answer) } } : jsonOf(answer)
  return {
    operationId: id,
    tags: [tag],
    summary,
    description: needs(key),
    ...(key === 'none' ? { security: [] } : {}),
    parameters: [
      ...pathParameters(operation),
      ...queryParameters(operation),
      ...(isInference
        ? Object.entries(REQUEST_HEADERS).map(([name, description]) => ({
            name,
            in: 'header',
            description,
            schema: HEADER_SCHEMAS[name] ?? { type: 'string' },
          }))
        : []),
    ],
    ...(body ? { requestBody: { required: !mayBeLeftOut(body), content: jsonOf(body) } } : {}),
    ...(takesFile
      ? { requestBody: { required: true, content: { 'application/octet-stream': { schema: {} } } } }
      : {}),
    responses: {
      [status]: {
        description: 'The answer.',
        ...(isInference ? { headers: headersOf(ANSWER_HEADERS) } : {}),
        content: {
          ...content,
          ...(streams ? { 'text/event-stream': { schema: STREAMED_EVENT } } : {}),
        },
      },
      default: {
        description:
          'An error; `error.code` tells which, and a 429 or 503 says in `retry-after` when to try again.',
        content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
      },
    },
  }
}

function needs(key: Operation['key']): string {
  switch (key) {
    case 'none':
      return 'Needs no key.'
    case 'operator':
      return 'Needs the admin key.'
    case 'inference':
      return "Needs an API key with the scope 'inference'."
    default:
      return `Needs the admin key, or an API key with the scope '${key}'.`
  }
}

/** No body reads as `{}`. */
function mayBeLeftOut({ schema }: NamedSchema): boolean {
  return safeParse(schema, {}).success
}

function jsonOf({ name }: NamedSchema) {
  return { 'application/json': { schema: { $ref: `#/components/schemas/${name}` } } }
}

function mediaTypeOf(answer: Extract<Operation['answer'], string>): string {
  return answer === 'json' ? 'application/json' : answer
}

function anythingOf(answer: Extract<Operation['answer'], string>): JsonSchema {
  if (answer === 'json') return { type: 'object' }
  return answer === 'application/octet-stream' ? {} : { type: 'string' }
}

function headersOf(headers: Record<string, string>) {
  return Object.fromEntries(
    Object.entries(headers).map(([name, description]) => [name, { description, schema: { type: 'string' } }]),
  )
}

function pathParameters({ path, params = {} }: Operation) {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => ({
    name,
    in: 'path',
    required: true,
    schema: params[name] ? schemaOf(params[name], 'input') : { type: 'string' },
  }))
}

function queryParameters({ query = {}, querySchema }: Operation) {
  const properties = querySchema ? (schemaOf(querySchema, 'input').properties ?? {}) : {}
  return [
    ...Object.entries(properties).map(([name, schema]) => ({ name, in: 'query', schema })),
    ...Object.entries(query).map(([name, description]) => ({
      name,
      in: 'query',
      description,
      schema: { type: 'string' },
    })),
  ]
}
