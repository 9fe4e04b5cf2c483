import type { SampleMessage } from '@copal/shared/wire/sample-message.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { storeRequestDomains } from '../../storage/db/queries/request-domain-queries.ts'
import { UNASSIGNED } from '../../storage/db/schema/domains.ts'
import type { SortedSample } from './sort-samples.ts'

/**
 * Stores the domains that were found for the requests of samples, so that receipts, drift and traffic have them. Of several
 * texts of a request the longest that has one decides. If that fails, the samples are to be tried again.
 *
 * @param sorted where the samples go, in their order
 * @returns in the order of the samples
 */
export async function storeFoundDomains(
  { db, nowMs }: Pick<Deps, 'db' | 'nowMs'>,
  samples: readonly { sample: SampleMessage }[],
  sorted: readonly SortedSample[],
): Promise<readonly SortedSample[]> {
  const found = samples.flatMap(({ sample: { requestId, text, domain: settled } }, index) => {
    const result = sorted[index]
    if (!result || !('domain' in result) || [settled, UNASSIGNED].includes(result.domain)) return []
    return { requestId, domain: result.domain, characters: text.length }
  })
  const longestFirst = found.toSorted((a, b) => b.characters - a.characters)
  try {
    const rows = longestFirst.map(({ requestId, domain }) => ({ requestId, domain }))
    await storeRequestDomains(db, rows, nowMs())
    return sorted
  } catch (error) {
    return sorted.map(() => ({ retry: error }))
  }
}
