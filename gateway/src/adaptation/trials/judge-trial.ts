import type { Database } from '../../contracts/database.ts'
import {
  listAttempts,
  listScoredPrompts,
  type SettledAttempt,
} from '../../storage/db/queries/trial-evidence-queries.ts'
import { TrialJudge, type AnsweredRequest, type TrialLimits, type TrialVerdict } from './trial-judge.ts'

/**
 * Scored requests that a verdict uses: the first of the trial. It is computed from these rows each time, so that a gateway
 * that restarts goes on where it was, and their number bounds what that costs.
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

/** Judges a trial by the scores and receipts in the database. */
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
  const first = { limit: MAX_ATTEMPTS, take: 'first', onlyOfWeights: !isOneTime } as const
  const firstOfReference = { ...first, limit: MAX_REFERENCE_ATTEMPTS } as const
  const last = { ...first, take: 'last' } as const
  const [scores, ofJudged, ofReference] = await Promise.all([
    listScoredPrompts(db, versions, sinceMs, MAX_SCORES),
    listAttempts(db, { model, maskVersion: judged }, { fromMs: sinceMs }, first),
    isOneTime
      ? listAttempts(db, { model, maskVersion: reference }, { fromMs: sinceMs }, firstOfReference)
      : listAttempts(
          db,
          { model, maskVersion: reference },
          { fromMs: referenceFromMs, untilMs: sinceMs },
          last,
        ),
  ])
  const judge = new TrialJudge(limits, { judgesTimes: isOneTime })
  for (const { domain, tokens, nll, nllShadow } of scores) {
    const gap = (judgedServes ? nll - nllShadow : nllShadow - nll) / tokens
    judge.addScore({ domain, tokens, gap })
  }
  const isCompared = isOneTime
    ? withinBoth([
        { attempts: ofJudged, limit: MAX_ATTEMPTS },
        { attempts: ofReference, limit: MAX_REFERENCE_ATTEMPTS },
      ])
    : () => true
  const attempts = [
    ...ofJudged.map((attempt) => ({ attempt, side: 'judged' as const })),
    ...ofReference.map((attempt) => ({ attempt, side: 'reference' as const })),
  ]
    .filter(({ attempt }) => isCompared(attempt))
    .sort((a, b) => inOrder(a.attempt, b.attempt))
  for (const { attempt, side } of attempts) judge.addRequest({ side, ...outcomeOf(attempt) })
  return judge.verdict()
}

/**
 * Returns whether an attempt is of the time in which both masks have attempts that were read: from the later of their first ones until
 * the first of those lists ends that have their limit. What fails or slows all nodes at another time would count for one mask alone.
 */
function withinBoth(
  sides: readonly { attempts: readonly SettledAttempt[]; limit: number }[],
): (attempt: SettledAttempt) => boolean {
  const fromMs = Math.max(...sides.map(({ attempts: [first] }) => first?.createdAt ?? Infinity))
  const untilMs = Math.min(
    ...sides.map(({ attempts, limit }) =>
      attempts.length < limit ? Infinity : (attempts.at(-1)?.createdAt ?? 0),
    ),
  )
  return ({ createdAt }) => createdAt >= fromMs && createdAt <= untilMs
}

function inOrder(a: SettledAttempt, b: SettledAttempt): number {
  return a.createdAt - b.createdAt || (a.requestId < b.requestId ? -1 : 1)
}

function outcomeOf(attempt: SettledAttempt): Omit<AnsweredRequest, 'side'> {
  const { finishReason, completionTokens, timeToFirstTokenMs: firstTokenMs, totalMs } = attempt
  const tokenMs =
    firstTokenMs === null || completionTokens < 2 ? null : (totalMs - firstTokenMs) / (completionTokens - 1)
  return { failed: finishReason === 'error' || finishReason === 'superseded', firstTokenMs, tokenMs }
}
