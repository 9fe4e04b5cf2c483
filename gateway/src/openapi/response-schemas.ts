/** Schemas of responses that only the OpenAPI document needs. */
import { z } from 'zod'
import { ERROR_CASES } from '@copal/shared/errors.ts'

const errorCode = z
  .enum(ERROR_CASES.map(({ code }) => code))
  .describe(ERROR_CASES.map(({ code, status, remedy }) => `- \`${code}\` (${status}): ${remedy}`).join('\n'))

/** The body of every error response. */
export const errorResponse = z.object({
  error: z.object({
    message: z.string().describe('What happened, what was expected, and what to do.'),
    type: z.enum([...new Set(ERROR_CASES.map(({ type }) => type))]),
    param: z.string().nullable().describe('The field, header or parameter that caused the error.'),
    code: errorCode,
  }),
})

/** The response of `GET /health`. */
export const healthResponse = z.object({ status: z.literal('ok'), nodes_alive: z.int() })
