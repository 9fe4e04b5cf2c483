import type { CacheCountsRow } from '../../storage/db/queries/cache-count-queries.ts'
import type { MetricFamily } from '../../telemetry/exposition.ts'

/** Returns the lookups and the sizes of the response caches. */
export function cacheFamilies(caches: readonly CacheCountsRow[]): MetricFamily[] {
  const sizeFamily = (name: string, help: string, value: (row: CacheCountsRow) => number): MetricFamily => ({
    name,
    help,
    type: 'gauge',
    samples: caches.map((row) => ({ labels: { tenant: row.tenant }, value: value(row) })),
  })
  return [
    {
      name: 'copal_cache_lookups_total',
      help: 'Requests that asked for a cached response, and whether there was one. No other metric counts hits.',
      type: 'counter',
      samples: caches.flatMap(({ tenant, hits, misses }) => [
        { labels: { tenant, outcome: 'hit' }, value: hits },
        { labels: { tenant, outcome: 'miss' }, value: misses },
      ]),
    },
    sizeFamily('copal_cache_answers', 'Cached responses.', (row) => row.answers),
    sizeFamily('copal_cache_bytes', 'Bytes of the cached responses.', (row) => row.bytes),
  ]
}
