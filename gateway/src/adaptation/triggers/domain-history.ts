import { DAY_MS } from '@copal/shared/day.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'

/** The part of an update that its domains' histories are made of. */
export type PastUpdate = Pick<
  UpdateRow,
  'id' | 'domains' | 'state' | 'trigger' | 'createdAt' | 'finishedAt'
> &
  Partial<Pick<UpdateRow, 'ownDomain'>>

/** The outcomes of a domain's updates. */
export interface DomainHistory {
  /** When the last update that took the domain began; undefined if none did. */
  lastStartMs: number | undefined
  /** Ended updates of the domain in a row, the newest included, that left no mask in use. */
  failures: number
  /** When the domain may be tried again after them; undefined without failures. */
  retryAtMs: number | undefined
}

const MINUTE_MS = 60_000
/** The first wait after a failure, where the cool-down is shorter: what failed once fails again a minute later. */
const MIN_BACK_OFF_MS = 15 * MINUTE_MS
/** The longest wait: a week. */
const MAX_BACK_OFF_MS = 7 * DAY_MS

/**
 * Returns the history of each domain. After an update that failed, was rolled back or was cancelled, its domains wait: for the
 * cool-down, at least 15 minutes, and twice as long after each further one in a row, at most a week. An update whose mask went
 * live ends the row. Updates that make a mask for one domain alone do not count.
 *
 * @param updates of one model, newest first
 */
export function domainHistories(
  updates: readonly PastUpdate[],
  cooldownMinutes: number,
): Map<string, DomainHistory> {
  const found = new Map<string, DomainHistory & { isRowOver: boolean; failedAtMs: number | undefined }>()
  for (const { domains, state, ownDomain, createdAt, finishedAt } of updates) {
    if (ownDomain != null) continue
    for (const domain of domains) {
      const known = found.get(domain) ?? {
        lastStartMs: createdAt,
        failures: 0,
        retryAtMs: undefined,
        failedAtMs: undefined,
        isRowOver: false,
      }
      found.set(domain, known)
      if (finishedAt === null || known.isRowOver) continue
      if (state === 'promoted') known.isRowOver = true
      else {
        known.failures += 1
        known.failedAtMs ??= finishedAt
      }
    }
  }
  const firstMs = Math.max(cooldownMinutes * MINUTE_MS, MIN_BACK_OFF_MS)
  return new Map(
    [...found].map(([domain, { lastStartMs, failures, failedAtMs }]) => [
      domain,
      {
        lastStartMs,
        failures,
        retryAtMs: failedAtMs === undefined ? undefined : failedAtMs + backOffMs(firstMs, failures),
      },
    ]),
  )
}

function backOffMs(firstMs: number, failures: number): number {
  return Math.min(MAX_BACK_OFF_MS, firstMs * 2 ** (failures - 1))
}
