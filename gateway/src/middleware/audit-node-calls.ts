import type { MiddlewareHandler } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { claimedNodeId, SIGNATURE_HEADER } from '@copal/shared/wire/signature.ts'
import type { NodeEvent, NodeEvents } from '../audit/node-events.ts'
import type { AppEnv } from '../contracts/context.ts'

/** Creates middleware that records rejected calls which use the name of a node, with a wrong signature or after it was replaced. */
export function auditNodeCalls(events: NodeEvents): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    await next()
    const event = rejectedEvent(c.error)
    const claimed = event && claimedNode(c.req.header(SIGNATURE_HEADER))
    if (!claimed) return
    const { deps } = c.var
    deps.waitUntil(events.record(deps, claimed, event, { error: c.error?.message ?? '' }))
  }
}

/** Returns what the audit log calls a rejected call of a node; undefined if it is no event of the node's name. */
function rejectedEvent(error: Error | undefined): NodeEvent | undefined {
  if (!(error instanceof AppError)) return undefined
  if (error.code === 'invalid_signature') return 'signature_rejected'
  return error.code === 'conflict' && error.param === 'process' ? 'replaced' : undefined
}

function claimedNode(header: string | undefined): string | undefined {
  try {
    return claimedNodeId(header)
  } catch {
    return undefined
  }
}
