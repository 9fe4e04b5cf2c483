import { z } from 'zod'
import { LIMITS, modelField, unsupported } from './inference-fields.ts'
import { textInput, asTextList } from './text-list.ts'

/** Body of `POST /v1/embeddings`. The input is a text, a list of token ids, or a list of either. */
export const embeddingsRequest = z.object({
  model: modelField,
  input: textInput(LIMITS.embeddings),
  encoding_format: z.enum(['float', 'base64']).nullish(),
  dimensions: unsupported("an embedding always has the size of the model's hidden states"),
  user: z.string().max(512).nullish(),
})
/** A parsed request body of `POST /v1/embeddings`. */
export type EmbeddingsRequest = z.output<typeof embeddingsRequest>

/** Response of `POST /v1/embeddings`. */
export const embeddingsResponse = z.object({
  object: z.literal('list'),
  data: z.array(
    z.object({
      object: z.literal('embedding'),
      index: z.int(),
      embedding: z
        .union([z.array(z.number()), z.string()])
        .describe('A vector of length 1; with `base64`, its f32 values, little-endian.'),
    }),
  ),
  model: z.string(),
  system_fingerprint: z.string(),
  usage: z.object({ prompt_tokens: z.int(), total_tokens: z.int() }),
})
/** A response of `POST /v1/embeddings`. */
export type EmbeddingsResponse = z.output<typeof embeddingsResponse>

/** Returns the inputs of a request: texts, or lists of token ids. */
export function inputsOf({ input }: Pick<EmbeddingsRequest, 'input'>): string[] | number[][] {
  return asTextList(input)
}
