import { safeParse } from 'zod/v4/core'
import { VERSION } from '../runtime/version.ts'
import { errorAnswer } from './response-schemas.ts'
import { streamedEvent } from './stream-events.ts'
import { failuresOf, generates, type DescribedAnswer } from './failures.ts'
import { ANSWER_HEADERS, REQUEST_HEADERS, type HeaderField } from './headers.ts'
import type { NamedSchema, Operation } from './operation.ts'
import { OPERATIONS } from './operations.ts'
import { schemaOf, type JsonSchema } from './schema.ts'

/** As much of an OpenAPI 3.1 document as this service has. */
export interface OpenApiDocument {
  openapi: '3.1.0'
  info: { title: string; version: string; description: string }
  security: Record<string, string[]>[]
  tags: { name: string }[]
  paths: Record<string, Record<string, DescribedOperation>>
  components: {
    schemas: Record<string, JsonSchema>
    responses: Record<string, DescribedAnswer>
    securitySchemes: Record<string, object>
  }
}

const DESCRIPTION =
  'An OpenAI-compatible text-generation service that keeps its own models pruned on live traffic. Any OpenAI client ' +
  "works with its base URL changed. Errors have the shape of `Error`. A field of OpenAI's that cannot be honoured is refused " +
  'with a 400 that names it; one that the service does not know is ignored, except where a schema allows no others.'

/** One parameter of an operation. */
export interface Parameter extends Partial<HeaderField> {
  name: string
  in: 'path' | 'query' | 'header'
  required?: true
  schema: JsonSchema
}

/** One operation of the document. */
export interface DescribedOperation {
  operationId: string
  tags: string[]
  summary: string
  description: string
  security?: []
  parameters: Parameter[]
  requestBody?: { required: boolean; content: object }
  /** By status; errors refer to the document's components. */
  responses: Record<string, DescribedAnswer | Reference>
}

interface Reference {
  $ref: string
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
      schemas: schemas(),
      responses: Object.fromEntries(
        OPERATIONS.flatMap((operation) => failuresOf(operation).map(({ name, answer }) => [name, answer])),
      ),
      securitySchemes: {
        key: { type: 'http', scheme: 'bearer', description: 'An API key, or the admin key.' },
      },
    },
  }
}

function schemas(): OpenApiDocument['components']['schemas'] {
  const bodies = OPERATIONS.flatMap(({ body }) => body ?? [])
  const answers = OPERATIONS.flatMap(({ answer }) => (typeof answer === 'string' ? [] : answer))
  const events = OPERATIONS.flatMap(({ streams }) => streams?.event ?? [])
  return {
    ...Object.fromEntries(bodies.map(({ name, schema }) => [name, schemaOf(schema, 'input')])),
    ...Object.fromEntries(
      [...answers, ...events].map(({ name, schema }) => [name, schemaOf(schema, 'output')]),
    ),
    Error: schemaOf(errorAnswer, 'output'),
  }
}

function describe(operation: Operation): DescribedOperation {
  const { id, tag, summary, key, body, takesFile, answer, status = 200, streams } = operation
  const isInference = generates(operation)
  const headers = isInference ? ANSWER_HEADERS : operation.headers
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
        ? Object.entries(REQUEST_HEADERS).map(([name, field]): Parameter => ({
            name,
            in: 'header',
            ...field,
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
        ...(headers ? { headers } : {}),
        content: {
          ...content,
          ...(streams ? { 'text/event-stream': { schema: streamedEvent(streams) } } : {}),
        },
      },
      ...Object.fromEntries(
        failuresOf(operation).map(({ status: failed, name }) => [
          failed,
          { $ref: `#/components/responses/${name}` },
        ]),
      ),
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

function pathParameters({ path, params = {} }: Operation): Parameter[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => ({
    name,
    in: 'path',
    required: true,
    schema: params[name] ? schemaOf(params[name], 'input') : { type: 'string' },
  }))
}

function queryParameters({ query = {}, querySchema }: Operation): Parameter[] {
  const properties = querySchema ? (schemaOf(querySchema, 'input').properties ?? {}) : {}
  return [
    ...Object.entries(properties).map(([name, schema]): Parameter => ({ name, in: 'query', schema })),
    ...Object.entries(query).map(([name, description]): Parameter => ({
      name,
      in: 'query',
      description,
      schema: { type: 'string' },
    })),
  ]
}
