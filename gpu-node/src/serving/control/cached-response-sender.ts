import type { CachedResponse } from '@copal/shared/wire/receipts.ts'
import { reasonOf, type Log } from '../../platform/log.ts'
import type { GatewayClient } from './gateway-client.ts'

/** Answers on their way to the gateway; what is more is not kept. */
const MAX_UNDER_WAY = 8

/**
 * Sends answers that the gateway keeps, once each: a lost one is made again when it is asked for again, so nothing waits
 * for them, and nothing is tried twice.
 */
export function createAnswerSender(deps: {
  gateway: Pick<GatewayClient, 'keepAnswer'>
  log: Log
}): (answer: CachedResponse) => void {
  let underWay = 0
  return (answer) => {
    if (underWay >= MAX_UNDER_WAY) return
    underWay += 1
    void deps.gateway
      .keepAnswer(answer)
      .catch((error: unknown) => deps.log.warn('an answer is not kept', { reason: reasonOf(error) }))
      .finally(() => (underWay -= 1))
  }
}
