import { z } from 'zod'
import { arrayOf } from './bounded.ts'
import { LIMITS, modelField, refused } from './generation.ts'

const text = z.string().min(1)
const tokens = arrayOf(z.int().min(0)).min(1)

/** Body of `POST /v1/embeddings`: one text or one list of token ids, or a list of either. */
export const embeddingsRequest = z.object({
  model: modelField,
  input: z.union(
    [
      text,
      tokens,
      arrayOf(text).min(1).max(LIMITS.embeddings),
      arrayOf(tokens).min(1).max(LIMITS.embeddings),
    ],
    `one text or one list of token ids is expected, or a list of at most ${LIMITS.embeddings} of either, none empty`,
  ),
  encoding_format: z.enum(['float', 'base64']).nullish(),
  dimensions: refused("an embedding has as many dimensions as the model's hidden states"),
  user: z.string().max(512).nullish(),
})
export type EmbeddingsRequest = z.output<typeof embeddingsRequest>

/** Answer of `POST /v1/embeddings`. */
export const embeddingsAnswer = z.object({
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
export type EmbeddingsAnswer = z.output<typeof embeddingsAnswer>

/** The texts of a request, or their token ids. */
export function inputsOf({ input }: Pick<EmbeddingsRequest, 'input'>): string[] | number[][] {
  if (typeof input === 'string') return [input]
  return isTokens(input) ? [input] : input
}

function isTokens(input: string[] | number[] | number[][]): input is number[] {
  return typeof input[0] === 'number'
}
