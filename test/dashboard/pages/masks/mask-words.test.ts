import { expect, test } from 'vitest'
import type { DriftReport, MaskEntry } from '@copal/shared/wire/admin.ts'
import { activationConsequences } from '../../../../gateway/dashboard/src/pages/masks/activation-words.ts'
import {
  maskSentence,
  masksSentence,
  perplexityRows,
  stateOfMask,
} from '../../../../gateway/dashboard/src/pages/masks/mask-words.ts'
import type { NodeEntry } from '@copal/shared/wire/admin.ts'

const plain = (text: string) => text.replaceAll('\u202F', ' ')

function maskOf(version: number, parent: number | null, changes: Partial<MaskEntry> = {}): MaskEntry {
  return {
    model: 'smollm',
    version,
    sha256: 'a',
    parent_version: parent,
    method: 'wanda',
    pattern: '50%',
    scope: 'row',
    sparsity: 0.5,
    churn: 0.03,
    domains: ['speech'],
    bytes: 77_000_000,
    pinned: false,
    swept_at: null,
    active: false,
    previous: false,
    created_at: '2026-11-28T02:00:00.000Z',
    promoted_at: '2026-11-28T02:00:00.000Z',
    ...changes,
  }
}
const masks = [maskOf(12, 11), maskOf(13, 12, { previous: true }), maskOf(14, 13, { active: true })]

test('the masks in a sentence: what serves, what was before', () => {
  expect(plain(masksSentence(masks, 14))).toBe(
    'Mask 14 serves: it leaves out 50 % of the weights, chosen for speech. Mask 13 is the one before. 3 of 3 masks have been active.',
  )
  expect(masksSentence([], 0)).toBe('There is no mask yet: the dense weights serve.')
  expect(masksSentence([maskOf(1, null, { promoted_at: null })], 0)).toBe(
    'The dense weights serve. No mask has been active yet.',
  )
})

test('the state of a mask is what it does, else what became of it', () => {
  expect(stateOfMask(maskOf(1, null, { active: true }), undefined).word).toBe('serves')
  const gate = { state: 'failed', error: { code: 'gate_failed', message: '' } } as const
  expect(stateOfMask(maskOf(1, null, { promoted_at: null }), gate).word).toBe('rejected')
  // A cancelled canary has served a share of the conversations.
  expect(stateOfMask(maskOf(1, null, { promoted_at: null }), { state: 'cancelled', error: null }).word).toBe(
    'never active',
  )
  expect(stateOfMask(maskOf(1, null), { state: 'rolled_back', error: null }).word).toBe('rolled back')
  expect(stateOfMask(maskOf(1, null, { swept_at: '2026-11-28T02:00:00.000Z' }), undefined).word).toBe(
    'file deleted',
  )
})

test('one mask in a sentence', () => {
  expect(plain(maskSentence(maskOf(13, 12), { word: 'previous' }))).toContain(
    'Mask 13 is the one before the active mask. It leaves out 50 % of the weights, and treats 3 % of the weights unlike mask 12.',
  )
  expect(plain(maskSentence(maskOf(13, 12, { churn: 0 }), { word: 'previous' }))).toContain(
    'It leaves out 50 % of the weights, the same ones as mask 12.',
  )
})

test('perplexities stand beside those of the parent and of the dense weights', () => {
  const r = {
    domains: ['speech', 'code'],
    stages: [0, 13, 14].map((version) => ({ mask_version: version, calibrated_domains: [] })),
    perplexity: [
      [8, 4],
      [10, null],
      [9, null],
    ],
    holdouts: [],
    backward_transfer: null,
    forgetting: [],
  } satisfies DriftReport['r']
  expect(perplexityRows(r, maskOf(14, 13))).toEqual([
    { domain: 'speech', own: 9, parent: 10, dense: 8, learned: true },
  ])
  expect(perplexityRows(r, maskOf(3, 2))).toEqual([])
})

test('making an earlier mask active tells who is concerned, what is undone, and how to return', () => {
  const node = (version: number) =>
    ({
      alive: true,
      draining: false,
      model: 'smollm',
      running: 2,
      weight_sets: [{ version, state: 'ready', requests: 0 }],
    }) as NodeEntry
  const consequences = activationConsequences({
    model: 'smollm',
    from: 14,
    to: 12,
    masks,
    nodes: [node(12), node(14)],
  }).join(' ')
  expect(consequences).toContain('Mask 12 serves all conversations of smollm instead of mask 14.')
  expect(consequences).toContain('1 of 2 live nodes hold it and serve it within some 2 seconds')
  expect(consequences).toContain('4 requests that run now end on mask 14.')
  expect(consequences).toContain('Mask 14 and Mask 13 count as rolled back')
  expect(consequences).toContain(
    'To return, open mask 14 and make it active again; its texts then count again.',
  )
})

test('returning to a mask that was rolled back warns of it, and says of no text that it counts again', () => {
  const undone = [maskOf(13, null, { active: true }), maskOf(14, 13, { previous: true })]
  const activation = { model: 'smollm', from: 13, to: 14, masks: undone, nodes: [] }
  const consequences = activationConsequences({ ...activation, wasRolledBack: true }).join(' ')
  expect(consequences).toContain('Mask 14 was rolled back before, and may do harm')
  expect(consequences).toContain('To return, open mask 13 and make it active again.')
  expect(activationConsequences(activation).join(' ')).not.toContain('rolled back')
})
