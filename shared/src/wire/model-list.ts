import { z } from 'zod'

/** One entry of `GET /v1/models`: a model, or a model with one of its versions. */
export const modelEntry = z.object({
  id: z.string().describe('The name for requests: `model`, `model@mask-12` or `model@dense`.'),
  object: z.literal('model'),
  created: z.int(),
  owned_by: z.literal('copal'),
  /** The weights that this name stands for now. */
  copal: z.object({
    mask_version: z.int().describe('0 is dense.'),
    sparsity: z.number(),
    method: z.string().nullable(),
    pattern: z.string().nullable(),
    domains: z.array(z.string()),
    context_length: z.int(),
    nodes: z.int().describe('Nodes that can serve these weights now.'),
  }),
})
/** One entry of `GET /v1/models`. */
export type ModelEntry = z.output<typeof modelEntry>

/** Response of `GET /v1/models`. */
export const modelList = z.object({ object: z.literal('list'), data: z.array(modelEntry) })
/** A response of `GET /v1/models`. */
export type ModelList = z.output<typeof modelList>
