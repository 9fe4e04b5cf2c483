import type { DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import { COMPARISONS } from './gate-figures.ts'
import type { GateHoldout, GateInput, HoldoutLosses } from './gate-input.ts'

const BOUNDED: ReadonlySet<string> = new Set([COMPARISONS.purpose, COMPARISONS.parent, COMPARISONS.best])

/** A window of held-out text on which a mask loses most against the active one. */
interface WorstWindow {
  holdout: GateHoldout
  window: number
  /** Nats a token. */
  difference: number
}

/**
 * Says which window of held-out text alone keeps a mask from being proven good: one under which it fails widens the bound
 * of all.
 *
 * @param failed the figures that failed
 * @param passes decides on other measurements
 * @returns undefined unless only bounds failed and the mask would pass without one window
 */
export function describeDecidingWindow(
  input: GateInput,
  failed: readonly DecisionFigure[],
  passes: (input: GateInput) => boolean,
): string | undefined {
  if (!failed.every(isUnproven)) return undefined
  const worst = input.holdouts.flatMap(worstWindowOf).toSorted((a, b) => b.difference - a.difference)
  const deciding = worst.find(({ holdout, window }) =>
    passes({
      ...input,
      holdouts: input.holdouts.map((each) => (each === holdout ? withoutWindow(each, window) : each)),
    }),
  )
  if (!deciding) return undefined
  const { holdout, window, difference } = deciding
  return (
    `Without window ${window + 1} of the ${holdout.windowTokens.length} of held-out text of '${holdout.domain}', which costs ` +
    `${difference.toFixed(2)} nats a token more than under the active mask, it would pass.`
  )
}

/** Returns whether a ratio is within its limit, and only its bound is not. */
function isUnproven({ name, value, limit }: DecisionFigure): boolean {
  return BOUNDED.has(name) && value !== null && limit !== null && value <= limit
}

function worstWindowOf(holdout: GateHoldout): WorstWindow[] {
  const { candidate, parent } = holdout
  const differences = (candidate.windowNll ?? []).flatMap((loss, window) => {
    const reference = parent?.windowNll?.[window] ?? null
    return loss === null || reference === null ? [] : [{ holdout, window, difference: loss - reference }]
  })
  return differences.toSorted((a, b) => b.difference - a.difference).slice(0, 1)
}

function withoutWindow(holdout: GateHoldout, window: number): GateHoldout {
  const { windowTokens, candidate, parent, best } = holdout
  const without = <T extends HoldoutLosses>(losses: T): T => ({
    ...losses,
    windowNll: losses.windowNll?.toSpliced(window, 1) ?? null,
  })
  return {
    ...holdout,
    windowTokens: windowTokens.toSpliced(window, 1),
    candidate: without(candidate),
    ...(parent ? { parent: without(parent) } : {}),
    ...(best ? { best: without(best) } : {}),
  }
}
