import { expect, test } from 'vitest'
import {
  ownerConsequences,
  ownerOptions,
} from '../../../../gateway/dashboard/src/pages/domain/owner-words.ts'

test('the owner may be all tenants or any of them, and the present one stays in the list', () => {
  expect(ownerOptions(['shop', 'acme'], 'gone')).toEqual([
    { value: '', label: 'All tenants' },
    { value: 'acme', label: 'Only tenant acme' },
    { value: 'gone', label: 'Only tenant gone' },
    { value: 'shop', label: 'Only tenant shop' },
  ])
  expect(ownerOptions([], '')).toHaveLength(1)
})

test('a change says whose texts are kept from then on, who sees the figures, and that kept texts stay', () => {
  const toTenant = ownerConsequences('legal', 'acme', '').join(' ')
  expect(toTenant).toContain('only sampled texts of acme are kept in legal')
  expect(toTenant).toContain('Administrators of acme see the figures')
  expect(toTenant).toContain('Texts that are kept now stay, also those of other tenants')
  const toAll = ownerConsequences('legal', '', 'acme').join(' ')
  expect(toAll).toContain('every tenant are kept in legal')
  expect(toAll).toContain('acme no longer sees the figures')
})

test('without a change it says who owns the domain', () => {
  expect(ownerConsequences('legal', '', '')).toEqual([
    'All tenants share legal: sampled texts of each of them are kept in it.',
  ])
  expect(ownerConsequences('legal', 'acme', 'acme')).toEqual([
    'Only texts of acme are kept in legal, and those that you import.',
  ])
})
