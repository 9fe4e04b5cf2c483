import { formatTime } from '@copal/shared/phrases.ts'
import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import type { UpdateTrigger } from '@copal/shared/wire/admin.ts'
import { nextOccurrence } from '../policy/schedule.ts'
import { estimateTokens, heldOutTokens, minHeldOutTokens } from '../holdouts/holdout-rules.ts'
import { isEnough, missingTokens, type TextDemand } from '../updates/text-sufficiency.ts'
import type { DomainHistory } from './domain-history.ts'
import { findDrift, type DriftFacts } from './drift-signals.ts'

/** The tokens of a segment, by which the policy counts text. */
export const SEGMENT_TOKENS = 512

/** A trigger without an operator. */
export type AutomaticTrigger = Exclude<UpdateTrigger, 'manual'>

/** The known facts about a domain. */
export interface DomainFacts extends DriftFacts {
  domain: string
  /** False until the texts were counted: the sizes below are 0 then, and say nothing. */
  isCounted: boolean
  /** Whether its reservoir was asked for the sizes now, and not D1. */
  isExact: boolean
  /** Characters of the pool that no update of the model has taken. */
  newCharacters: number
  /** The bytes of them that an update would take: no key gives more than its share. At most what an update wants. */
  takeableBytes: number
  /** Characters of held-out text: of its latest version, if it has one, and in the reservoir. */
  heldOut: { latest: number | undefined; reservoir: number }
  /** Tokens that were settled under the active and the previous mask. */
  trafficTokens: number
  history: DomainHistory | undefined
  createdAtMs: number
}

/** The rules by which a domain is due. */
export interface DueRules {
  nowMs: number
  policy: AdaptationPolicy['triggers']
  /** When the policy was set; a schedule counts from then on. */
  policySetMs: number
  demand: TextDemand
  windowTokens: number
}

/** Whether a domain is due, and why. */
export interface DueDomain {
  due: AutomaticTrigger | undefined
  reason: string
  newSegments: number
  /** Held-out tokens that it lacks to be judged at all. */
  missingHeldOut: number
  /** Held-out tokens that it lacks to be updated without a domain that has them. */
  missingAlone: number
}

/** Decides whether a domain is due: a trigger asks for an update, and its texts allow one. A pure function. */
export function judgeDomain(facts: DomainFacts, rules: DueRules): DueDomain {
  const { isCounted, newCharacters, takeableBytes, heldOut, history } = facts
  if (!isCounted) {
    const reason = 'its texts were not counted yet'
    return { due: undefined, reason, newSegments: 0, missingHeldOut: 0, missingAlone: 0 }
  }
  const newSegments = Math.floor(estimateTokens(newCharacters) / SEGMENT_TOKENS)
  const held = heldOutTokens(heldOut)
  const { each, alone } = minHeldOutTokens(rules.windowTokens)
  const missingHeldOut = Math.max(0, each - held)
  const base = { newSegments, missingHeldOut, missingAlone: Math.max(0, alone - held) }
  const wanted = triggerOf(facts, newSegments, rules)
  const refused = (reason: string): DueDomain => ({ ...base, due: undefined, reason })
  if (wanted.due === undefined) return refused(wanted.reason)
  if (!isEnough(takeableBytes, rules.demand)) {
    const missing = missingTokens(takeableBytes, rules.demand)
    return refused(`${wanted.reason}, but about ${missing} tokens of new text are missing for an update`)
  }
  if (missingHeldOut > 0) {
    return refused(`${wanted.reason}, but ${lacksHeldOut(missingHeldOut)}`)
  }
  const { retryAtMs = 0, failures = 0 } = history ?? {}
  if (retryAtMs > rules.nowMs) {
    const times = failures === 1 ? 'its last update' : `its last ${failures} updates`
    return refused(
      `${wanted.reason}, but ${times} left no mask in use, so it waits until ${formatTime(retryAtMs)}`,
    )
  }
  return { ...base, due: wanted.due, reason: wanted.reason }
}

/** Returns a due domain as one that is not, because no due domain has enough held-out text to judge a mask by. */
export function withoutJudge(due: DueDomain): DueDomain {
  const { missingAlone, reason } = due
  return {
    ...due,
    due: undefined,
    missingHeldOut: missingAlone,
    reason: `${reason}, but ${lacksHeldOut(missingAlone)} by this domain alone`,
  }
}

function lacksHeldOut(tokens: number): string {
  return `${tokens} tokens of held-out text are missing to judge a mask`
}

function triggerOf(
  facts: DomainFacts,
  newSegments: number,
  { nowMs, policy, policySetMs }: DueRules,
): { due: AutomaticTrigger | undefined; reason: string } {
  const { history, createdAtMs } = facts
  const text = `${newSegments} new segments`
  if (newSegments >= policy.new_segments) {
    return { due: 'volume', reason: `${text}, and ${policy.new_segments} are enough` }
  }
  const drift = findDrift(facts, policy)
  if (drift !== undefined) return { due: 'drift', reason: `${drift}; ${text}` }
  const sinceMs = Math.max(history?.lastStartMs ?? 0, policySetMs, createdAtMs)
  // The next time of a schedule takes longer to find than all else of a plan.
  if (policy.schedule !== null && newSegments > 0) {
    const scheduledMs = nextOccurrence(policy.schedule, sinceMs)
    if (scheduledMs !== undefined && scheduledMs <= nowMs)
      return { due: 'schedule', reason: `the schedule '${policy.schedule}' came round; ${text}` }
  }
  return { due: undefined, reason: `${newSegments} of ${policy.new_segments} new segments` }
}
