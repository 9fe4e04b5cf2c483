/** What the routes answer, as the OpenAPI document tells it. */
import { z } from 'zod'
import { ERROR_CASES } from '@copal/shared/errors.ts'

const errorCode = z
  .enum(ERROR_CASES.map(({ code }) => code))
  .describe(ERROR_CASES.map(({ code, status, remedy }) => `- \`${code}\` (${status}): ${remedy}`).join('\n'))

/** Every error. */
export const errorAnswer = z.object({
  error: z.object({
    message: z.string().describe('What was wrong, what was expected, what to do.'),
    type: z.enum([...new Set(ERROR_CASES.map(({ type }) => type))]),
    param: z.string().nullable().describe('The field that was wrong.'),
    code: errorCode,
  }),
})

/** One entry of `GET /v1/models`. */
export const modelAnswer = z.object({
  id: z.string().describe('`model`, `model@mask-12` or `model@dense`: what requests can name.'),
  object: z.literal('model'),
  created: z.int(),
  owned_by: z.literal('copal'),
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

/** Answer of `GET /v1/models`. */
export const modelListAnswer = z.object({
  object: z.literal('list'),
  data: z.array(modelAnswer),
})

/** Answer of `GET /health`. */
export const healthAnswer = z.object({ status: z.literal('ok'), nodes_alive: z.int() })
