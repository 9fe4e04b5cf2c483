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

/** Answer of `GET /health`. */
export const healthAnswer = z.object({ status: z.literal('ok'), nodes_alive: z.int() })
