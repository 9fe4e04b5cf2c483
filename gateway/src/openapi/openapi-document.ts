import { safeParse } from 'zod/v4/core'
import { VERSION } from '../runtime/version.ts'
import { errorResponse } from './response-schemas.ts'
import { streamEventSchema } from './stream-events.ts'
import { errorResponsesOf, isGeneration, type DescribedResponse } from './operation-errors.ts'
import { RESPONSE_HEADERS, REQUEST_HEADERS, type HeaderField } from './headers.ts'
import type { NamedSchema, Operation } from './operation.ts'
import { OPERATIONS } from './operations.ts'
import { schemaOf, type JsonSchema } from './openapi-schema.ts'
import { DEFAULT_SECURITY, SECURITY_SCHEMES, securityOf, type SecurityRequirements } from './security.ts'

/** The parts of an OpenAPI 3.1 document that this service uses. */
export interface OpenApiDocument {
  openapi: '3.1.0'
  info: { title: string; version: string; description: string }
  security: SecurityRequirements
  tags: { name: string }[]
  paths: Record<string, Record<string, DescribedOperation>>
  components: {
    schemas: Record<string, JsonSchema>
    responses: Record<string, DescribedResponse>
    securitySchemes: Record<string, object>
  }
}

const DESCRIPTION =
  'An OpenAI-compatible text-generation service that prunes its models continually on live traffic. Any OpenAI client ' +
  'works after changing its base URL. Every error has the shape of `Error`. A field of the OpenAI API that the service ' +
  'does not support is rejected with a 400 that names it; an unknown field is ignored, unless a schema allows no others.'

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
  security: SecurityRequirements
  parameters: Parameter[]
  requestBody?: { required: boolean; content: object }
  /** Responses by status; errors refer to the document's components. */
  responses: Record<string, DescribedResponse | Reference>
}

interface Reference {
  $ref: string
}

/** Creates the OpenAPI document from the schemas that validate requests. Takes longer than a request: create it once. */
export function createDocument(): OpenApiDocument {
  const paths: OpenApiDocument['paths'] = {}
  for (const operation of OPERATIONS) (paths[operation.path] ??= {})[operation.method] = describe(operation)
  return {
    openapi: '3.1.0',
    info: { title: 'copal', version: VERSION, description: DESCRIPTION },
    security: DEFAULT_SECURITY,
    tags: [...new Set(OPERATIONS.map(({ tag }) => tag))].map((name) => ({ name })),
    paths,
    components: {
      schemas: schemas(),
      responses: Object.fromEntries(
        OPERATIONS.flatMap((operation) =>
          errorResponsesOf(operation).map(({ name, response }) => [name, response]),
        ),
      ),
      securitySchemes: SECURITY_SCHEMES,
    },
  }
}

function schemas(): OpenApiDocument['components']['schemas'] {
  const bodies = OPERATIONS.flatMap(({ body }) => body ?? [])
  const responses = OPERATIONS.flatMap(({ response }) => (typeof response === 'string' ? [] : response))
  const events = OPERATIONS.flatMap(({ streams }) => streams?.event ?? [])
  return {
    ...Object.fromEntries(bodies.map(({ name, schema }) => [name, schemaOf(schema, 'input')])),
    ...Object.fromEntries(
      [...responses, ...events].map(({ name, schema }) => [name, schemaOf(schema, 'output')]),
    ),
    Error: schemaOf(errorResponse, 'output'),
  }
}

function describe(operation: Operation): DescribedOperation {
  const { id, tag, summary, body, takesFile, response, status = 200, streams } = operation
  const isInference = isGeneration(operation)
  const headers = isInference ? RESPONSE_HEADERS : operation.headers
  const content =
    typeof response === 'string'
      ? { [mediaTypeOf(response)]: { schema: rawSchema(response) } }
      : jsonContent(response)
  return {
    operationId: id,
    tags: [tag],
    summary,
    description: keyRequirement(operation),
    security: securityOf(operation),
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
    ...(body ? { requestBody: { required: !isBodyOptional(body), content: jsonContent(body) } } : {}),
    ...(takesFile
      ? { requestBody: { required: true, content: { 'application/octet-stream': { schema: {} } } } }
      : {}),
    responses: {
      [status]: {
        description: 'The response.',
        ...(headers ? { headers } : {}),
        content: {
          ...content,
          ...(streams ? { 'text/event-stream': { schema: streamEventSchema(streams) } } : {}),
        },
      },
      ...(operation.accepted === undefined ? {} : { 202: { description: operation.accepted, content } }),
      ...Object.fromEntries(
        errorResponsesOf(operation).map(({ status: failed, name }) => [
          failed,
          { $ref: `#/components/responses/${name}` },
        ]),
      ),
    },
  }
}

function keyRequirement({ key, method }: Operation): string {
  switch (key) {
    case 'none':
      return 'Requires no key.'
    case 'session':
      return 'Requires the cookie of a session of the dashboard.'
    case 'operator':
      return method === 'get'
        ? "Requires the admin key, or an API key with the scope 'read-admin'."
        : 'Requires the admin key.'
    case 'inference':
      return "Requires an API key with the scope 'inference'."
    case 'admin':
      return method === 'get'
        ? "Requires the admin key, or an API key with the scope 'admin', 'read-metrics' or 'read-admin'."
        : "Requires the admin key, or an API key with the scope 'admin'."
    default:
      return "Requires the admin key, or an API key with the scope 'read-metrics' or 'read-admin'."
  }
}

/** Returns whether a request without a body is valid; it is read as `{}`. */
function isBodyOptional({ schema }: NamedSchema): boolean {
  return safeParse(schema, {}).success
}

function jsonContent({ name }: NamedSchema) {
  return { 'application/json': { schema: { $ref: `#/components/schemas/${name}` } } }
}

function mediaTypeOf(response: Extract<Operation['response'], string>): string {
  return response === 'json' ? 'application/json' : response
}

function rawSchema(response: Extract<Operation['response'], string>): JsonSchema {
  if (response === 'json') return { type: 'object' }
  return response === 'application/octet-stream' ? {} : { type: 'string' }
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
