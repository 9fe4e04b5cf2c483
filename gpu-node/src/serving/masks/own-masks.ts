import type { OwnMaskRef } from '@copal/shared/wire/heartbeat.ts'

/** Time after which a request counts half. */
const HALF_LIFE_MS = 10 * 60_000
/** How much more a mask must be used to replace one that is held, so that two of them do not take turns. */
const REPLACE_FACTOR = 2

/** Counts the recent requests of domains; old ones count less and less. */
export interface DomainUse {
  add(domain: string): void
  of(domain: string): number
  /** Forgets all other domains. */
  keep(domains: readonly string[]): void
}

/** Creates a {@link DomainUse} without requests. */
export function createDomainUse(nowMs: () => number): DomainUse {
  const counts = new Map<string, { count: number; atMs: number }>()
  const of = (domain: string) => {
    const known = counts.get(domain)
    return known ? known.count * 2 ** ((known.atMs - nowMs()) / HALF_LIFE_MS) : 0
  }
  return {
    add: (domain) => void counts.set(domain, { count: of(domain) + 1, atMs: nowMs() }),
    of,
    keep(domains) {
      for (const domain of counts.keys()) if (!domains.includes(domain)) counts.delete(domain)
    },
  }
}

/** The facts by which own masks are ordered. */
export interface OwnMaskUse {
  useOf: (domain: string) => number
  isHeld: (version: number) => boolean
}

/** Orders masks of single domains by need: the most used ones first, so that these are held if not all fit into memory. */
export function rankOwnMasks(own: readonly OwnMaskRef[], { useOf, isHeld }: OwnMaskUse): OwnMaskRef[] {
  const rankOf = ({ domain, version }: OwnMaskRef) => useOf(domain) * (isHeld(version) ? REPLACE_FACTOR : 1)
  return own.toSorted(
    (a, b) =>
      rankOf(b) - rankOf(a) || Number(isHeld(b.version)) - Number(isHeld(a.version)) || a.version - b.version,
  )
}
