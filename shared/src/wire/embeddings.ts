import { z } from 'zod'
import { LIMITS, modelField, unsupported } from './inference-fields.ts'
import { textInput, asTextList } from './text-list.ts'

/** Body of `POST /v1/embeddings`: one text or one list of token ids, or a list of either. */
export const embeddingsRequest = z.object({
  model: modelField,
  input: textInput(LIMITS.embeddings),
  encoding_format: z.enum(['float', 'base64']).nullish(),
  dimensions: unsupported("an embedding has as many dimensions as the model's hidden states"),
  user: z.string().max(512).nullish(),
})
export type EmbeddingsRequest = z.output<typeof embeddingsRequest>

/** Answer of `POST /v1/embeddings`. */
export const embeddingsResponse = z.object({
  object: z.literal('list'),
  data: z.array(
    z.object({
      object: z.literal('embedding'),
      index: z.int(),
      embedding: z
        .union([z.array(z.number()), z.string()])
        .describe('Of length 1; with `base64` its f32 numbers, lowest byte first.'),
    }),
  ),
  model: z.string(),
  system_fingerprint: z.string(),
  usage: z.object({ prompt_tokens: z.int(), total_tokens: z.int() }),
})
export type EmbeddingsResponse = z.output<typeof embeddingsResponse>

/** The texts of a request, or their token ids. */
export function inputsOf({ input }: Pick<EmbeddingsRequest, 'input'>): string[] | number[][] {
  return asTextList(input)
}
