import { expect, test } from 'vitest'
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import { keptTexts, updateConsequences } from '../../../../gateway/dashboard/src/pages/domain/action-words.ts'

const entryOf = (changes: Partial<DomainEntry>): DomainEntry => ({
  name: 'code',
  samples: 5,
  characters: 500,
  new_samples: 2,
  seen: 5,
  holdout_samples: 0,
  holdout_frozen: false,
  owner: null,
  calibrated_datasets: 0,
  last_sample_at: null,
  ...changes,
})

test('an update is of the new texts, or of what was calibrated before', () => {
  expect(updateConsequences(entryOf({}))[0]).toBe(
    'A node calibrates a new mask on 2 new texts of the domain, while it serves requests.',
  )
  expect(updateConsequences(entryOf({ new_samples: 0 }))[0]).toBe(
    'The domain has no new text, so a node selects a new mask from what was calibrated before, while it serves requests.',
  )
})

test('a domain that was not counted yet is not said to have no text', () => {
  const entry = entryOf({ samples: 0, new_samples: 0, counted_at: null })
  expect(updateConsequences(entry)[0]).toBe(
    'A node calibrates a new mask on the new texts of the domain, while it serves requests.',
  )
  expect(keptTexts(entry)).toBe('texts')
  expect(keptTexts(entryOf({ counted_at: '2026-11-28T12:00:00.000Z' }))).toBe('5 texts')
})
