import type { Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import type { KeyedEnv } from '../../contracts/context.ts'
import type { Priority } from '../../contracts/acquire.ts'

const HEADER = 'x-copal-priority'

/**
 * Reads the priority of a request from `x-copal-priority`; the default is the highest, so a client can only lower it.
 *
 * @throws AppError `invalid_request` that names the header
 */
export function priorityOf(c: Context<KeyedEnv>): Priority {
  const value = c.req.header(HEADER) ?? 'interactive'
  if (value === 'interactive' || value === 'batch') return value
  throw new AppError('invalid_request', `Invalid '${HEADER}': 'interactive' or 'batch' is expected.`, {
    param: HEADER,
  })
}
