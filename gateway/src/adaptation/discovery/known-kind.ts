import type { DomainClassifier, LabelledText } from './classifier.ts'
import { isWellKnown } from './classify.ts'

/** Returns whether texts that are alike are of a kind that the classifier knows: at least half of them are well within its domains. */
export function isKnownKind(
  classifier: DomainClassifier,
  texts: readonly Omit<LabelledText, 'domain'>[],
): boolean {
  if (!classifier.dense) return false
  return 2 * texts.filter((text) => isWellKnown(classifier, text)).length >= texts.length
}
