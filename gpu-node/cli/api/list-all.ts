import type { z } from 'zod'
import { pageOf } from '@copal/shared/wire/paging.ts'
import type { ApiClient } from './api-client.ts'

/** Reads all pages of a list under `/admin`. */
export async function listAll<T>(
  client: Pick<ApiClient, 'admin'>,
  path: string,
  entry: z.ZodType<T>,
): Promise<T[]> {
  const page = pageOf(entry)
  const entries: T[] = []
  let after: string | undefined
  do {
    const query =
      after === undefined ? '' : `${path.includes('?') ? '&' : '?'}after=${encodeURIComponent(after)}`
    const { data, next_after: next } = await client.admin('GET', path + query, page)
    entries.push(...data)
    // A server that repeats itself is no gateway.
    after = next === null || next === after ? undefined : next
  } while (after !== undefined)
  return entries
}
