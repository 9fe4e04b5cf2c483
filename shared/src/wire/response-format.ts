import { z } from 'zod'
import { jsonSchema } from './json-schema.ts'

/** What functions and formats are called. */
export const functionName = z
  .string()
  .regex(/^[a-zA-Z0-9_-]{1,64}$/, "1 to 64 letters, digits, '_' or '-' are expected")

const description = z.string().max(4096)

/**
 * `response_format` of chat completions. A schema is always followed, so `strict` changes nothing; without a schema
 * any JSON object is.
 */
export const responseFormat = z.discriminatedUnion('type', [
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
])
export type ResponseFormat = z.output<typeof responseFormat>
