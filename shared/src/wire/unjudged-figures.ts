import type { DecisionFigure } from './admin-decisions.ts'

/** Names of the figures of a gate that say on which domains it did not judge a mask, and why, in their note. */
export const UNJUDGED_FIGURES = {
  leftOut: 'holdouts left out',
  noHoldout: 'domains without a holdout',
} as const

/** Returns whether a figure of a gate names domains that it did not judge. */
export function isUnjudged(name: string): boolean {
  return name === UNJUDGED_FIGURES.leftOut || name === UNJUDGED_FIGURES.noHoldout
}

/** Returns whether a figure of a trial is of times that were not judged, because they were compared with those of another time. */
export function isUnjudgedTime({ name, limit }: Pick<DecisionFigure, 'name' | 'limit'>): boolean {
  return limit === null && name.startsWith('slow')
}
