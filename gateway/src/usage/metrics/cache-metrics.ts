import type { CacheCountsRow } from '../../storage/db/queries/cache-count-queries.ts'
import type { MetricSamples } from './metric-samples.ts'

/** Returns the lookups and the sizes of response caches together; zero if there are none. */
export function cacheSamples(counts: Omit<CacheCountsRow, 'tenant'> | undefined) {
  const { hits, misses, answers, bytes } = counts ?? { hits: 0, misses: 0, answers: 0, bytes: 0 }
  return {
    cacheLookups: [
      { labels: ['hit'], value: hits },
      { labels: ['miss'], value: misses },
    ],
    cacheAnswers: [{ labels: [], value: answers }],
    cacheBytes: [{ labels: [], value: bytes }],
  } satisfies Partial<MetricSamples>
}
