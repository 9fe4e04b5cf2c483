import { z } from 'zod'

/** One entry of `GET /v1/models`: a model, or a model with one of its weights. */
export const modelEntry = z.object({
  id: z.string().describe('`model`, `model@mask-12` or `model@dense`: what requests can name.'),
  object: z.literal('model'),
  created: z.int(),
  owned_by: z.literal('copal'),
  /** Which weights answer now. */
  copal: z.object({
    mask_version: z.int().describe('0 is dense.'),
    sparsity: z.number(),
    method: z.string().nullable(),
    pattern: z.string().nullable(),
    domains: z.array(z.string()),
    context_length: z.int(),
    nodes: z.int().describe('That can answer with these weights now.'),
  }),
})
export type ModelEntry = z.output<typeof modelEntry>

/** Answer of `GET /v1/models`. */
export const modelList = z.object({ object: z.literal('list'), data: z.array(modelEntry) })
export type ModelList = z.output<typeof modelList>
