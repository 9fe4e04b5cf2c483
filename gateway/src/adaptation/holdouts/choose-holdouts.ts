import type { DatasetRef } from '@copal/shared/wire/adaptation-jobs.ts'
import { GENERAL_HOLDOUT } from '../../storage/db/schema/domains.ts'

/** The facts by which holdouts are chosen. */
export interface HoldoutChoice {
  /** The domains of the update, which are always evaluated. */
  updated: readonly string[]
  /** Maximum number of holdouts, apart from the general one. */
  maxHoldouts: number
  /** Settled tokens of each domain. */
  tokens: ReadonlyMap<string, number>
  /** When a mask of the model was last evaluated on each domain, Unix milliseconds. */
  evaluatedMs: ReadonlyMap<string, number>
}

/** One in this many of the places that the update's domains leave goes to the others in turn, and at least one. */
const TURN_EVERY = 4

/**
 * Chooses the holdouts that an update evaluates: the general one and those of its domains always. Of the places that are left,
 * three in four go to the domains with most traffic. The rest are for the other domains in turn, those first whose last evaluation
 * is longest ago, so that each comes round. A pure function: the turn is in what was evaluated.
 */
export function chooseHoldouts(
  holdouts: readonly DatasetRef[],
  { updated, maxHoldouts, tokens, evaluatedMs }: HoldoutChoice,
): DatasetRef[] {
  const others = holdouts.map(({ domain }) => domain).filter((domain) => isOther(domain, updated))
  const named = holdouts.filter(({ domain }) => updated.includes(domain)).length
  const places = Math.max(0, maxHoldouts - named)
  if (others.length <= places) return [...holdouts]
  const turns = places === 0 ? 0 : Math.max(1, Math.floor(places / TURN_EVERY))
  const busiest = others
    .filter((domain) => (tokens.get(domain) ?? 0) > 0)
    .toSorted((a, b) => (tokens.get(b) ?? 0) - (tokens.get(a) ?? 0) || a.localeCompare(b))
    .slice(0, places - turns)
  const inTurn = others
    .filter((domain) => !busiest.includes(domain))
    .toSorted((a, b) => (evaluatedMs.get(a) ?? 0) - (evaluatedMs.get(b) ?? 0) || a.localeCompare(b))
    .slice(0, places - busiest.length)
  const chosen = new Set([...busiest, ...inTurn])
  return holdouts.filter(({ domain }) => !isOther(domain, updated) || chosen.has(domain))
}

function isOther(domain: string, updated: readonly string[]): boolean {
  return domain !== GENERAL_HOLDOUT && !updated.includes(domain)
}
