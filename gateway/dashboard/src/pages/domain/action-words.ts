/** Words of the actions on a domain's page. */
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import { countedEntry } from '../../data/counted-entry.ts'
import { plural } from '../../format/numbers.ts'

/** Names the kept texts of a domain, with their number if they were counted. */
export function keptTexts(entry: DomainEntry): string {
  const counted = countedEntry(entry)
  return counted ? plural(counted.samples, 'text') : 'texts'
}

/** The effects of an update of a domain that an operator starts. */
export function updateConsequences(entry: DomainEntry): string[] {
  const counted = countedEntry(entry)
  const fresh = counted && (counted.new_samples ?? counted.samples)
  const texts = fresh === undefined ? 'the new texts' : plural(fresh, 'new text')
  return [
    fresh === 0
      ? 'The domain has no new text, so a node selects a new mask from what was calibrated before, while it serves requests.'
      : `A node calibrates a new mask on ${texts} of the domain, while it serves requests.`,
    'The mask serves only if it passes the gate, and then the canary where the policy asks for one.',
    'The update can be cancelled until its mask serves, and rolled back afterwards.',
  ]
}
