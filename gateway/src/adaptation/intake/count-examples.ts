import type { Deps } from '../../contracts/bindings.ts'
import type { ExampleCounts } from '../../contracts/reservoir-counts.ts'
import { listDomains } from '../../storage/db/queries/domain-queries.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import { maxDomains } from '../discovery/classifier-codec.ts'
import { askedWithin, storedCounts } from '../sampling/domain-counts.ts'
import { EXAMPLES } from '../sampling/reservoir-descriptions.ts'
import { describeStored, type DescribeBudget } from './describe-stored.ts'

/** A domain with fewer examples is not known to the classifier. */
export const MIN_EXAMPLES = 8
/** Domains whose examples a run has described where there are more than it may ask. */
const MAX_DESCRIBED = 16
/** More domains than any classifier can have. */
const MAX_KNOWN = maxDomains(1)

/** A domain with enough described examples. */
interface KnownDomain {
  name: string
  createdAt: number
  /** Its examples, at most {@link EXAMPLES}. */
  count: number
}

/**
 * Returns the domains that have enough described examples, and has missing ones described as far as the budget goes. Where a run
 * may not ask the reservoirs of all domains, it takes their numbers from D1, which are at most a minute old, and has texts
 * described of the oldest domains that lack some.
 */
export async function countExamples(
  deps: Parameters<typeof describeStored>[0] & Parameters<typeof storedCounts>[0] & Pick<Deps, 'calls'>,
  model: ModelRow,
  budget: DescribeBudget,
  bases: readonly string[],
): Promise<KnownDomain[]> {
  const domains = await listDomains(deps.db)
  const describe = (domain: string) => describeStored(deps, model, { domain, want: EXAMPLES }, budget, bases)
  const maxAsked = askedWithin(deps.calls, 4)
  const known: KnownDomain[] = []
  if (domains.length <= maxAsked) {
    for (const { name, createdAt } of domains) known.push({ name, createdAt, count: await describe(name) })
  } else {
    const names = domains.map(({ name }) => name)
    const stored = await storedCounts(deps, names, maxAsked)
    const examplesOf = (name: string): ExampleCounts => {
      const examples = stored.get(name)?.examples
      return examples?.[model.baseSha256] ?? examples?.[''] ?? { described: 0, missing: 0 }
    }
    const possible = domains
      .map(({ name, createdAt }) => ({ name, createdAt, ...examplesOf(name) }))
      .filter(({ described, missing }) => described + missing >= MIN_EXAMPLES)
      .toSorted((a, b) => a.createdAt - b.createdAt)
      .slice(0, MAX_KNOWN)
    const lacking = possible.filter(({ missing }) => missing > 0).slice(0, MAX_DESCRIBED)
    for (const { name, createdAt, described } of possible) {
      const isAsked = budget.texts > 0 && lacking.some((each) => each.name === name)
      known.push({ name, createdAt, count: isAsked ? await describe(name) : described })
    }
  }
  return known.flatMap((each) =>
    each.count >= MIN_EXAMPLES ? { ...each, count: Math.min(each.count, EXAMPLES) } : [],
  )
}
