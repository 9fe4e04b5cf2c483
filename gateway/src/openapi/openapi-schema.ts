import { z } from 'zod'
import type { $ZodType } from 'zod/v4/core'

/** A JSON Schema of draft 2020-12, the dialect of OpenAPI 3.1. */
export interface JsonSchema {
  [keyword: string]: unknown
  properties?: Record<string, JsonSchema>
  required?: string[]
}

/** Converts a zod schema to the JSON Schema of its input or output. */
export function schemaOf(schema: $ZodType, io: 'input' | 'output'): JsonSchema {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, reused: 'inline' })
  return rest as JsonSchema
}
