import { z } from 'zod'
import { jsonSchema } from './json-schema.ts'

/** The name of a function or a format. */
export const functionName = z
  .string()
  .regex(/^[a-zA-Z0-9_-]{1,64}$/, "expected 1 to 64 letters, digits, '_' or '-'")

const description = z.string().max(4096)

/**
 * `response_format` of chat completions. The output always follows the schema, so `strict` has no effect; without a schema
 * it is any JSON object.
 */
export const responseFormat = z.discriminatedUnion(
  'type',
  [
    z.object({ type: z.literal('text') }),
    z.object({ type: z.literal('json_object') }),
    z.object({
      type: z.literal('json_schema'),
      json_schema: z.object({
        name: functionName,
        description: description.nullish(),
        schema: jsonSchema.nullish(),
        strict: z.boolean().nullish(),
      }),
    }),
  ],
  "expected 'text', 'json_object' or 'json_schema'",
)
/** A parsed `response_format`. */
export type ResponseFormat = z.output<typeof responseFormat>
