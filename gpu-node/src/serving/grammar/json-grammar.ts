import type { JsonSchema } from '@copal/shared/wire/json-schema.ts'
import type { ResponseFormat } from '@copal/shared/wire/response-format.ts'

/**
 * JSON on one line, with one space after `:` and `,`, as models write it. A small model that may break lines
 * anywhere can go on with spaces until its tokens are used up.
 */
const LAYOUT = { whitespace_flexible: false, item_separator: ', ', key_separator: ': ' }

/** What JSON mode gives. */
const ANY_OBJECT: JsonSchema = { type: 'object' }

/** The schema as the compiler reads it: with our layout, whatever of the kind it came with. */
export function withLayout(schema: JsonSchema): JsonSchema {
  return { ...schema, 'x-guidance': LAYOUT }
}

/** The schema that a response format asks for; undefined for plain text. */
export function schemaOf(format: ResponseFormat | null | undefined): JsonSchema | undefined {
  if (!format || format.type === 'text') return undefined
  return (format.type === 'json_schema' ? format.json_schema.schema : undefined) ?? ANY_OBJECT
}
