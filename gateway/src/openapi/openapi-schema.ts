import { z } from 'zod'
import type { $ZodType } from 'zod/v4/core'

/** A JSON Schema, of draft 2020-12 as OpenAPI 3.1 has it. */
export interface JsonSchema {
  [keyword: string]: unknown
  properties?: Record<string, JsonSchema>
  required?: string[]
}

/** The JSON Schema of what a schema takes, or gives. */
export function schemaOf(schema: $ZodType, io: 'input' | 'output'): JsonSchema {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, reused: 'inline' })
  return rest as JsonSchema
}
