import { hmac, isHmac } from '@copal/shared/wire/hmac.ts'
import type { KeepWish } from '@copal/shared/wire/node-rpc.ts'
import type { GatewaySecrets } from './node-secrets.ts'

/** A request that a node was called with, and whom it is charged to. */
interface GivenRequest {
  requestId: string
  account?: string | undefined
  model: string
  domain: string
}

/** A tenant's answer that a node was asked to send once more. */
type GivenAnswer = Pick<KeepWish, 'key' | 'ttlMs'> & { tenant: string }

/** What a ticket is over: no node may tell of what another was given. */
export interface Given {
  nodeId: string
  what: { request: GivenRequest } | { answer: GivenAnswer }
}

/**
 * Tickets go with a call to its node and come back with what that tells of it. So the gateway knows whose a request was,
 * and whom it is charged to, when its lease is long gone and the Fleet object has forgotten it.
 */
export interface Tickets {
  issue(given: Given): Promise<string>
  isFor(ticket: string | undefined, given: Given): Promise<boolean>
}

/** Whatever else is made with the gateway's secret begins otherwise. */
const LABEL = 'copal ticket 1'

/** Tickets under a secret that no node has; those of any of them hold. */
export function createTickets(secrets: GatewaySecrets): Tickets {
  return {
    issue: (given) => hmac(secrets[0], textOf(given)),
    async isFor(ticket, given) {
      if (ticket === undefined) return false
      const text = textOf(given)
      for (const secret of secrets) if (await isHmac(secret, text, ticket)) return true
      return false
    },
  }
}

function textOf({ nodeId, what }: Given): string {
  return `${LABEL}\n${JSON.stringify([nodeId, ...factsOf(what)])}`
}

function factsOf(what: Given['what']): (string | number | null)[] {
  if ('request' in what) {
    const { requestId, account = null, model, domain } = what.request
    return ['request', requestId, account, model, domain]
  }
  const { tenant, key, ttlMs } = what.answer
  return ['answer', tenant, key, ttlMs]
}
