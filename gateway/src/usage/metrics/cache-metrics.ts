import type { CacheCountsRow } from '../../storage/db/queries/cache-count-queries.ts'
import type { MetricFamily } from '../../telemetry/exposition.ts'

/** Returns what the response caches hold and did. */
export function cacheFamilies(caches: readonly CacheCountsRow[]): MetricFamily[] {
  const held = (name: string, help: string, value: (row: CacheCountsRow) => number): MetricFamily => ({
    name,
    help,
    type: 'gauge',
    samples: caches.map((row) => ({ labels: { tenant: row.tenant }, value: value(row) })),
  })
  return [
    {
      name: 'copal_cache_lookups_total',
      help: 'Requests that asked for a kept answer, and whether there was one. Hits are in no other figure.',
      type: 'counter',
      samples: caches.flatMap(({ tenant, hits, misses }) => [
        { labels: { tenant, outcome: 'hit' }, value: hits },
        { labels: { tenant, outcome: 'miss' }, value: misses },
      ]),
    },
    held('copal_cache_answers', 'Answers that are kept.', (row) => row.answers),
    held('copal_cache_bytes', 'Bytes of the answers that are kept.', (row) => row.bytes),
  ]
}
