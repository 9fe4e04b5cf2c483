import type { JsonSchema } from '@copal/shared/wire/schema-walk.ts'
import type { ResponseFormat } from '@copal/shared/wire/response-format.ts'

/**
 * The layout of JSON: one line, with one space after `:` and `,`, as models write it. A small model that may break lines
 * anywhere can repeat white space until its token limit.
 */
const LAYOUT = { whitespace_flexible: false, item_separator: ', ', key_separator: ': ' }

/** The schema of JSON mode. */
const ANY_OBJECT: JsonSchema = { type: 'object' }

/** Adds the layout to a schema, and replaces any that the schema has. */
export function withLayout(schema: JsonSchema): JsonSchema {
  return { ...schema, 'x-guidance': LAYOUT }
}

/** Returns the schema that a response format requests; undefined for plain text. */
export function schemaOf(format: ResponseFormat | null | undefined): JsonSchema | undefined {
  if (!format || format.type === 'text') return undefined
  return (format.type === 'json_schema' ? format.json_schema.schema : undefined) ?? ANY_OBJECT
}
