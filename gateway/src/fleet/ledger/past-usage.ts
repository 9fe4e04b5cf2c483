import { openDatabase } from '../../storage/db/open-database.ts'
import { sumChargedTokens } from '../../storage/db/queries/usage-day-queries.ts'
import type { UsageOwner } from '../../contracts/limits.ts'
import type { UnchargedUsage } from '../../contracts/reservation.ts'
import { inRandomOrder } from '../../runtime/random-order.ts'
import type { Ledger } from './ledger.ts'

/** Accounts whose past usage is read by one alarm, which may make a thousand calls. */
const MAX_READ_AT_ONCE = 100
/** After so many failures in a row the database is taken to be down. */
const MAX_FAILURES = 3

/**
 * Charges an account the usage of this month from before it had limits, or before the ledger forgot it, from D1.
 *
 * @returns false if D1 cannot be read, or must be read again
 */
export async function chargePastUsage(
  binding: D1Database,
  ledger: Ledger,
  owner: UsageOwner,
  uncharged: UnchargedUsage,
): Promise<boolean> {
  try {
    const tokens = await sumChargedTokens(openDatabase(binding), owner, uncharged)
    return ledger.chargeUsage(owner, uncharged, tokens, Date.now())
  } catch (error) {
    console.error(
      `Cannot read the receipts of ${owner.kind} '${owner.name}'; its monthly usage is incomplete until they can be read:`,
      error,
    )
    return false
  }
}

/**
 * Charges accounts without a monthly limit their past usage too, some at a time: no request waits for it, but if they get such a limit
 * later, the receipts that tell the time before from the time after may be deleted. One that cannot be read does not delay the others.
 *
 * @param onCharged called after each account, so that a restart repeats none of those before
 */
export async function chargeUnreadUsage(
  binding: D1Database,
  ledger: Ledger,
  onCharged: () => void,
): Promise<void> {
  let failures = 0
  for (const { owner, uncharged } of inRandomOrder(ledger.unread(Date.now())).slice(0, MAX_READ_AT_ONCE)) {
    if (await chargePastUsage(binding, ledger, owner, uncharged)) {
      failures = 0
      onCharged()
    } else {
      failures += 1
      if (failures === MAX_FAILURES) return
    }
  }
}
