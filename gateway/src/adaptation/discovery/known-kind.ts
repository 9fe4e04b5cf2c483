import type { DomainClassifier } from './classifier.ts'
import { noveltyOf } from './novelty.ts'

/**
 * Returns whether texts that are alike are of a kind that the classifier knows: at least half of them are nearer to left-out
 * examples of its domains than to the threshold above which a text is unknown.
 */
export function isKnownKind(
  { dense, novelty }: DomainClassifier,
  embeddings: readonly (readonly number[])[],
): boolean {
  if (!dense || !novelty || novelty.threshold <= 0) return false
  const near = embeddings.filter((embedding) => {
    if (embedding.length !== dense.mean.length) return false
    const row = Float32Array.from(embedding, (value, d) => (value - dense.mean[d]!) * dense.scale[d]!)
    return noveltyOf(novelty, row) <= novelty.threshold / 2
  })
  return 2 * near.length >= embeddings.length
}
