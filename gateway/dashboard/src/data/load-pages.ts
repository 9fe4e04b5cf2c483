/** Reads lists that come in pages as one list. */
import type { DriftReport } from '@copal/shared/wire/admin.ts'
import { joinDriftPages } from '@copal/shared/wire/drift-pages.ts'
import type { Page } from '@copal/shared/wire/paging.ts'
import type { Client } from './client.ts'

/** Paths of lists of which pages show all entries. */
const PAGED: ReadonlySet<string> = new Set([
  '/admin/domains',
  '/admin/keys',
  '/admin/masks',
  '/admin/tenants',
])

/** The report whose pages have the domains one after the other. */
const DRIFT = '/admin/drift'

/** Loads a path; of a list or report that comes in pages the entries of all, so that none is missing in a sum, a line or a choice. */
export async function loadPages(client: Pick<Client, 'get'>, path: string): Promise<unknown> {
  const first = await client.get<Partial<Page<unknown>>>({ path })
  const [name = '', query] = path.split('?')
  const pageAfter = <T>(after: string) =>
    client.get<T>({
      path: `${name}?${query === undefined ? '' : `${query}&`}after=${encodeURIComponent(after)}`,
    })
  if (name === DRIFT) return loadDrift(first as DriftReport, (after) => pageAfter<DriftReport>(after))
  if (!PAGED.has(name) || first.data === undefined) return first
  const data = [...first.data]
  for (let after = first.next_after; typeof after === 'string';) {
    const next = await pageAfter<Page<unknown>>(after)
    data.push(...next.data)
    after = next.next_after === after ? null : next.next_after
  }
  return { ...first, data, next_after: null }
}

/** Loads the other pages of a report of drift, which are of further domains. */
async function loadDrift(
  first: DriftReport,
  pageAfter: (after: string) => Promise<DriftReport>,
): Promise<DriftReport> {
  let report = first
  while (typeof report.next_after === 'string') {
    const next = await pageAfter(report.next_after)
    if (next.next_after === report.next_after) break
    report = joinDriftPages(report, next)
  }
  return report
}
