import type { Database } from '../../contracts/database.ts'
import { sumAttempts, sumGaps, type AttemptRow } from '../../storage/db/queries/trial-evidence-queries.ts'
import {
  judgeSums,
  maxGapFor,
  NO_VALUES,
  type AttemptSums,
  type GapSums,
  type TrialLimits,
  type TrialSide,
  type TrialVerdict,
} from './trial-judge.ts'

/**
 * Scored requests that a verdict uses: the first of the trial. The database sums these rows each time, so that a gateway that
 * restarts goes on where it was, and their number bounds what that costs.
 */
export const MAX_SCORES = 5_000
/** Likewise, attempts of the judged mask. */
const MAX_ATTEMPTS = 2_000
/** Attempts of the other mask of a canary: it answers most conversations, so that as many of it are from a shorter time. */
const MAX_REFERENCE_ATTEMPTS = 5 * MAX_ATTEMPTS

/** The masks of a trial, and the times at which they answered the requests that are compared. */
export interface JudgedTrial {
  model: string
  judged: number
  reference: number
  /** The one of the two that serves and beside which the other is a shadow. */
  active: 'judged' | 'reference'
  sinceMs: number
  /**
   * Attempts of the reference from before the trial, where it no longer serves; by default those of the trial. Then neither times
   * nor failures that weights cannot cause are judged, because the nodes may have changed meanwhile.
   */
  referenceFromMs?: number
}

/** Judges a trial by the scores and receipts in the database, which sums them by conversation. */
export async function judgeTrial(
  db: Database,
  trial: JudgedTrial,
  limits: TrialLimits,
): Promise<TrialVerdict> {
  const { model, judged, reference, active, sinceMs, referenceFromMs } = trial
  const judgedServes = active === 'judged'
  const versions = {
    model,
    maskVersion: judgedServes ? judged : reference,
    shadowVersion: judgedServes ? reference : judged,
  }
  const isOneTime = referenceFromMs === undefined
  const [gaps, attempts] = await Promise.all([
    sumGaps(
      db,
      versions,
      { fromMs: sinceMs, limit: MAX_SCORES, judged: judgedServes ? 'mask' : 'shadow' },
      { all: maxGapFor(limits.maxGap), domain: maxGapFor(limits.maxDomainGap) },
    ),
    sumAttempts(
      db,
      model,
      {
        judged: { maskVersion: judged, fromMs: sinceMs, limit: MAX_ATTEMPTS, take: 'first' },
        reference: isOneTime
          ? { maskVersion: reference, fromMs: sinceMs, limit: MAX_REFERENCE_ATTEMPTS, take: 'first' }
          : {
              maskVersion: reference,
              fromMs: referenceFromMs,
              untilMs: sinceMs,
              limit: MAX_ATTEMPTS,
              take: 'last',
            },
      },
      { onlyOfWeights: !isOneTime, sameTime: isOneTime },
    ),
  ])
  const [all = { ...NO_VALUES, domain: null, requests: 0, tokens: 0 }, ...domains]: GapSums[] = gaps
  const ofSide = (side: TrialSide) => attemptSumsOf(attempts.find((row) => row.side === side))
  const sums = { all, domains, attempts: { judged: ofSide('judged'), reference: ofSide('reference') } }
  return judgeSums(sums, limits, { judgesTimes: isOneTime })
}

function attemptSumsOf(row: AttemptRow | undefined): AttemptSums {
  if (!row) return { failed: NO_VALUES, slowFirstToken: NO_VALUES, slowTokens: NO_VALUES }
  return {
    failed: { count: row.failedCount, sum: row.failedSum, squares: row.failedSquares },
    slowFirstToken: { count: row.slowFirstCount, sum: row.slowFirstSum, squares: row.slowFirstSquares },
    slowTokens: { count: row.slowTokensCount, sum: row.slowTokensSum, squares: row.slowTokensSquares },
  }
}
