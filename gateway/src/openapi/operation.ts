import { z } from 'zod'
import type { $ZodObject, $ZodType } from 'zod/v4/core'
import type { ErrorCode } from '@copal/shared/errors.ts'
import type { HeaderField } from './headers.ts'

/** A schema, and its name among the components of the OpenAPI document. */
export interface NamedSchema {
  name: string
  schema: $ZodType
}

/** One route, as the OpenAPI document and the reference page describe it. */
export interface Operation {
  method: 'get' | 'post' | 'put' | 'patch' | 'delete'
  /** Path with its parameters in braces. */
  path: string
  id: string
  tag: 'Inference' | 'Keys and tenants' | 'Adaptation' | 'Dashboard' | 'Service'
  summary: string
  /** The key that the operation requires; `session`: the cookie of a session of the dashboard. */
  key: 'inference' | 'read-metrics' | 'admin' | 'operator' | 'session' | 'none'
  /** The operation refuses the session of the dashboard and needs the key itself. */
  refusesSession?: true
  /** Schemas of the path parameters that do not accept every text. */
  params?: Record<string, $ZodType>
  /** Descriptions of the query parameters that accept every text. */
  query?: Record<string, string>
  /** Query parameters as a schema. */
  querySchema?: $ZodObject
  body?: NamedSchema
  /** The body is a file. */
  takesFile?: true
  response:
    | NamedSchema
    | 'json'
    | 'text/plain'
    | 'text/html'
    | 'application/octet-stream'
    | 'application/x-ndjson'
    | 'text/event-stream'
  /** Status of success if it is not 200. */
  status?: 201
  /** When it responds 202 with the same body, because a part is done later. */
  accepted?: string
  /** Headers of the response, in addition to those of every inference response. */
  headers?: Readonly<Record<string, HeaderField>>
  /** Server-sent events, the response to a request with `stream: true`. */
  streams?: {
    /** Schema of the JSON in `data`. */
    event: NamedSchema
    /** The `data` of the last event if that is not JSON. */
    end?: '[DONE]'
  }
  /** Errors in addition to those that `errorsOf` derives from the other fields. */
  errors?: readonly ErrorCode[]
}

/** Gives a schema its name. */
export const named = (name: string, schema: $ZodType): NamedSchema => ({ name, schema })

/** Creates the schema of a list `{"data": [...]}`. */
export const listOf = (name: string, entry: $ZodType): NamedSchema =>
  named(`${name}List`, z.object({ data: z.array(entry) }))

/** The fields that most operations of a file share. */
type Shared = Pick<Operation, 'tag' | 'key'>

/** Gives operations the fields that they share, except where one has its own. */
export const operationsOf = (
  shared: Shared,
  operations: readonly (Omit<Operation, keyof Shared> & Partial<Shared>)[],
): readonly Operation[] => operations.map((operation) => ({ ...shared, ...operation }))
