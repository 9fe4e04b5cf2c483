import type { CachedResponse } from '@copal/shared/wire/receipts.ts'
import { reasonOf, type Log } from '../../platform/log.ts'
import type { GatewayClient } from './gateway-client.ts'

/** Responses that may be sent at once; further ones are not cached. */
const MAX_IN_FLIGHT = 8

/**
 * Creates the function that sends responses for the gateway's response cache. Each response is sent once, without
 * retries and without waiting: a lost one is generated again on the next request for it.
 */
export function createCachedResponseSender(deps: {
  gateway: Pick<GatewayClient, 'sendCachedResponse'>
  log: Log
}): (response: CachedResponse) => void {
  let inFlight = 0
  return (response) => {
    if (inFlight >= MAX_IN_FLIGHT) return
    inFlight += 1
    void deps.gateway
      .sendCachedResponse(response)
      .catch((error: unknown) => deps.log.warn('a response is not cached', { reason: reasonOf(error) }))
      .finally(() => (inFlight -= 1))
  }
}
