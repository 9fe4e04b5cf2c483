import { expect, test } from 'vitest'
import type { MaskEntry, NodeEntry } from '@copal/shared/wire/admin.ts'
import {
  firstChoices,
  weightChoices,
} from '../../../../gateway/dashboard/src/pages/playground/model-choices.ts'

const masks = [14, 13, 12].map((version) => ({
  version,
  swept_at: version === 12 ? '2026-11-01T00:00:00Z' : null,
})) as MaskEntry[]
const node = {
  alive: true,
  model: 'smollm',
  weight_sets: [
    { version: 14, state: 'ready', requests: 0 },
    { version: 0, state: 'ready', requests: 0 },
    { version: 13, state: 'loading', requests: 0 },
  ],
} as NodeEntry

test('the active mask comes first, then what nodes hold, and a mask without a file is no choice', () => {
  const choices = weightChoices('smollm', 14, masks, [node])
  expect(choices.map(({ label }) => label)).toEqual([
    'Mask 14, active',
    'Dense weights',
    'Mask 13, not loaded',
  ])
})

test('the address chooses; else it is the active mask beside the dense weights', () => {
  const choices = weightChoices('smollm', 14, masks, [node])
  expect(firstChoices(choices, { left: null, right: null })).toEqual([14, 0])
  expect(firstChoices(choices, { left: '13', right: '14' })).toEqual([13, 14])
  expect(firstChoices(choices, { left: '99', right: null })).toEqual([14, 0])
})
