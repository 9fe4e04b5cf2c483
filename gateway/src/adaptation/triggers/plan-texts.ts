import type { Deps } from '../../contracts/bindings.ts'
import type { ReservoirStats } from '../../contracts/reservoir-counts.ts'
import type { TakeRequest } from '../../contracts/reservoir-object.ts'
import { askEach, countNow, domainStats, type DomainStats } from '../sampling/domain-counts.ts'
import { MAX_CHARACTER_BYTES } from '../sampling/text-bytes.ts'
import { isEnough, type TextDemand } from '../updates/text-sufficiency.ts'
import type { DomainFacts } from './due-domain.ts'
import { planUpdate, type PlanInput } from './plan-update.ts'

/** The facts of a domain without the sizes of its texts. */
export type FactsBesideTexts = Omit<
  DomainFacts,
  'isCounted' | 'isExact' | 'newCharacters' | 'takeableBytes' | 'heldOut'
> & {
  /** Characters of the latest version of its holdout. */
  latestHoldout: number | undefined
}

/** What an update of the model draws of each domain, and how many reservoirs may be asked. */
interface TextRequest {
  draw: Omit<TakeRequest, 'updateId'>
  maxAsked: number
}

/**
 * Adds the sizes of texts to facts. Up to `maxAsked` reservoirs are asked. Of more domains the sizes in D1 are taken, which are at
 * most a minute old, and the domains that a plan takes by them are asked, until all that it takes were. None is if a plan takes more
 * than may be asked.
 */
export async function withTexts(
  deps: Pick<Deps, 'db' | 'reservoir'>,
  input: Omit<PlanInput, 'domains'>,
  facts: readonly FactsBesideTexts[],
  { draw, maxAsked }: TextRequest,
): Promise<DomainFacts[]> {
  const { model } = draw
  const names = facts.map(({ domain }) => domain)
  const stats = await domainStats(deps, names, { model, maxAsked })
  const sized = new Map<string, DomainFacts>()
  for (const each of facts) {
    const { domain } = each
    const known = stats.get(domain)
    if (known) sized.set(domain, sizedFacts(each, known, estimatedBytes(known, draw, input.demand)))
  }
  const overcounted: string[] = []
  const ask = async (domain: string): Promise<void> => {
    const each = sized.get(domain)
    if (!each) return
    const known = stats.get(domain)
    const isExact = known?.countedAtMs === undefined
    const exact = known && isExact ? known : await deps.reservoir(domain).stats(model)
    const bytes = mayBeEnough(exact, input.demand)
      ? await deps.reservoir(domain).available(draw)
      : exact.newCharacters
    sized.set(domain, sizedFacts({ ...each, latestHoldout: each.heldOut.latest }, exact, bytes))
    if (exact.newCharacters < each.newCharacters || bytes < each.takeableBytes) overcounted.push(domain)
  }
  if (names.length <= maxAsked) await askEach(names, ask)
  else {
    await askTaken(input, sized, { maxAsked, ask })
    // Or else the next plan would ask the same ones, and those behind them would wait.
    await countNow(deps, overcounted)
  }
  return [...sized.values()]
}

/** Asks the reservoirs of the domains that a plan takes, and plans again, until it takes only domains that were asked. */
async function askTaken(
  input: Omit<PlanInput, 'domains'>,
  sized: ReadonlyMap<string, DomainFacts>,
  { maxAsked, ask }: { maxAsked: number; ask: (domain: string) => Promise<void> },
): Promise<void> {
  const asked = new Set<string>()
  while (asked.size < maxAsked) {
    const { next } = planUpdate({ ...input, domains: [...sized.values()] })
    if (next.length > maxAsked) return
    const open = next.flatMap(({ domain }) => (asked.has(domain) ? [] : domain))
    if (open.length === 0) return
    const some = open.slice(0, maxAsked - asked.size)
    for (const domain of some) asked.add(domain)
    await askEach(some, ask)
  }
}

/** Returns the bytes that an update would take by the counts in D1; without a count of this draw all that there may be. */
function estimatedBytes(
  { draw: counted, ...stats }: DomainStats,
  draw: Omit<TakeRequest, 'updateId'>,
  demand: TextDemand,
): number {
  if (!mayBeEnough(stats, demand)) return stats.newCharacters
  const isSame =
    counted?.maxBytes === draw.maxBytes &&
    counted.maxKeyShare === draw.maxKeyShare &&
    counted.outlierDeviations === draw.outlierDeviations
  return isSame ? counted.bytes : stats.newCharacters * MAX_CHARACTER_BYTES
}

/** Returns whether there may be enough new text for an update. Only then is a draw worth its time. */
function mayBeEnough({ newCharacters }: Pick<ReservoirStats, 'newCharacters'>, demand: TextDemand): boolean {
  return isEnough(newCharacters * MAX_CHARACTER_BYTES, demand)
}

function sizedFacts(
  { latestHoldout: latest, ...facts }: FactsBesideTexts,
  { newCharacters, holdoutCharacters: reservoir, countedAtMs }: ReservoirStats & Partial<DomainStats>,
  takeableBytes: number,
): DomainFacts {
  return {
    ...facts,
    isCounted: countedAtMs !== null,
    isExact: countedAtMs === undefined,
    newCharacters,
    takeableBytes,
    heldOut: { latest, reservoir },
  }
}
