import {
  meanDifference,
  pooledMeanDifference,
  type MeanEstimate,
  type PairedWindows,
} from '@copal/shared/metrics/paired-bound.ts'
import type { GateHoldout, HoldoutLosses } from './gate-input.ts'

/** A domain with fewer held-out tokens is small, and bounded together with other such domains. */
const FULL_HOLDOUT_TOKENS = 8192
/** With fewer windows the quantile of Student's t is so wide that a mask as good as the active one is not proven so. */
const MIN_WINDOWS = 5
/** Windows of a group beyond one for each holdout, whose mean takes a degree of freedom. */
const MIN_DEGREES_OF_FREEDOM = 2

/** A holdout under two masks. */
export interface Compared {
  holdout: GateHoldout
  windows: PairedWindows
  /** Part in the mean of its group. */
  weight: number
}

/** Holdouts with one bound: a full one alone, or all the small ones. */
export interface ComparisonGroup<T extends Compared> {
  members: readonly T[]
  isSmall: boolean
  /** Whether its windows are enough for a bound; always so for a full holdout. */
  hasBound: boolean
  estimate: MeanEstimate
}

/** Groups holdouts by what is bounded together: full ones first, then all small ones. */
export function groupsOf<T extends Compared>(compared: readonly T[]): ComparisonGroup<T>[] {
  const full = compared.filter(({ holdout }) => !isSmall(holdout))
  const small = compared.filter(({ holdout }) => isSmall(holdout))
  return [
    ...full.map((each) => ({
      members: [each],
      isSmall: false,
      hasBound: true,
      estimate: meanDifference(each.windows),
    })),
    ...(small.length === 0
      ? []
      : [
          {
            members: small,
            isSmall: true,
            hasBound: haveBound(small),
            estimate: pooledMeanDifference(small),
          },
        ]),
  ]
}

/** Pairs the windows of a holdout under the candidate and another mask. */
export function pair({ candidate, windowTokens }: GateHoldout, reference: HoldoutLosses): PairedWindows {
  return {
    candidate: finite(candidate.windowNll),
    reference: finite(reference.windowNll),
    tokens: windowTokens,
  }
}

/** The first token of a window is context only and not scored, but it is held-out text. */
function isSmall({ windowTokens }: GateHoldout): boolean {
  return (
    windowTokens.length < MIN_WINDOWS ||
    windowTokens.reduce((sum, tokens) => sum + tokens + 1, 0) < FULL_HOLDOUT_TOKENS
  )
}

function haveBound(small: readonly Compared[]): boolean {
  const count = small.reduce((sum, { windows }) => sum + windows.tokens.length, 0)
  return count >= MIN_WINDOWS && count - small.length >= MIN_DEGREES_OF_FREEDOM
}

function finite(losses: readonly (number | null)[] | null): number[] {
  return (losses ?? []).map((loss) => loss ?? Number.NaN)
}
