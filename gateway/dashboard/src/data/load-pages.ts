/** Reads lists that come in pages as one list. */
import type { Page } from '@copal/shared/wire/paging.ts'
import type { Client } from './client.ts'

/** Paths of lists of which pages show all entries. */
const PAGED: ReadonlySet<string> = new Set([
  '/admin/domains',
  '/admin/keys',
  '/admin/masks',
  '/admin/tenants',
])

/** Loads a path; of a list that comes in pages the entries of all, so that none is missing in a sum, a line or a choice. */
export async function loadPages(client: Pick<Client, 'get'>, path: string): Promise<unknown> {
  const first = await client.get<Partial<Page<unknown>>>({ path })
  const [name = '', query] = path.split('?')
  if (!PAGED.has(name) || first.data === undefined) return first
  const data = [...first.data]
  for (let after = first.next_after; typeof after === 'string';) {
    const next: Page<unknown> = await client.get({
      path: `${name}?${query === undefined ? '' : `${query}&`}after=${encodeURIComponent(after)}`,
    })
    data.push(...next.data)
    after = next.next_after === after ? null : next.next_after
  }
  return { ...first, data, next_after: null }
}
