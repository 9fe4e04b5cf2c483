import { z } from 'zod'
import type { $ZodObject, $ZodType } from 'zod/v4/core'
import type { ErrorCode } from '@copal/shared/errors.ts'
import type { HeaderField } from './headers.ts'

/** A schema with the name that it has among the document's components. */
export interface NamedSchema {
  name: string
  schema: $ZodType
}

/** One route, as the OpenAPI document and the reference page tell of it. */
export interface Operation {
  method: 'get' | 'post' | 'put' | 'patch' | 'delete'
  /** Parameters in braces. */
  path: string
  id: string
  tag: 'Inference' | 'Keys and tenants' | 'Adaptation' | 'Service'
  summary: string
  /** Which key opens it; nothing is needed for `none`. */
  key: 'inference' | 'read-metrics' | 'admin' | 'operator' | 'none'
  /** What the parameters of the path may be, where that is not any text. */
  params?: Record<string, $ZodType>
  query?: Record<string, string>
  /** The same, as a schema of its fields. */
  querySchema?: $ZodObject
  body?: NamedSchema
  /** A file is taken as it is. */
  takesFile?: true
  answer:
    | NamedSchema
    | 'json'
    | 'text/plain'
    | 'text/html'
    | 'application/octet-stream'
    | 'application/x-ndjson'
  /** Of success, when it is not 200. */
  status?: 201
  /** Of the answer, beside those that every answer to an inference request has. */
  headers?: Readonly<Record<string, HeaderField>>
  /** With `stream: true` the answer is server-sent events. */
  streams?: {
    /** What their `data` is, as JSON. */
    event: NamedSchema
    /** The `data` of the last one, when it is no JSON. */
    end?: '[DONE]'
  }
  /** What else can go wrong than `errorsOf` finds out by itself. */
  errors?: readonly ErrorCode[]
}

/** A schema and its name. */
export const named = (name: string, schema: $ZodType): NamedSchema => ({ name, schema })

/** `{"data": [...]}` of entries of one kind. */
export const listOf = (name: string, entry: $ZodType): NamedSchema =>
  named(`${name}List`, z.object({ data: z.array(entry) }))
