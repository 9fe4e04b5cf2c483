import { expect, test } from 'vitest'
import type { MaskEntry, StatusReport } from '@copal/shared/wire/admin.ts'
import { MAX_CANARY_SHARE, type VersionTraffic } from '@copal/shared/wire/admin-trials.ts'
import {
  canaryRows,
  endConsequences,
  mayStartTrial,
  operatorTrials,
  MAX_PERCENT,
  parseShare,
  shadowRows,
  startConsequences,
  trialSentence,
} from '../../../../gateway/dashboard/src/pages/masks/operator-trial.ts'

type Model = StatusReport['models'][number]
const trial = (version: number, updateId: string | null) => ({
  mask_version: version,
  share: 0.1,
  since: '2026-11-28T12:00:00Z',
  update_id: updateId,
  evidence: null,
})
const modelWith = (changes: Partial<Model> = {}): Model => ({
  id: 'm',
  active_version: 14,
  previous_version: 13,
  sparsity: 0.5,
  context_length: 2_048,
  converged: true,
  canary: null,
  shadow: null,
  watch: null,
  ...changes,
})
const maskOf = (version: number, sweptAt: string | null = null): MaskEntry => ({
  model: 'm',
  version,
  sha256: 'a',
  parent_version: 0,
  method: 'wanda',
  pattern: '50%',
  scope: 'row',
  sparsity: 0.5,
  churn: 0.03,
  domains: [],
  bytes: 1,
  pinned: false,
  swept_at: sweptAt,
  active: false,
  previous: false,
  created_at: '2026-11-28T02:00:00Z',
  promoted_at: null,
})

test("an operator's trials of a mask are those that no update runs", () => {
  const model = modelWith({ canary: trial(15, null), shadow: trial(12, null) })
  expect(operatorTrials(model, 15)).toEqual(['canary'])
  expect(operatorTrials(model, 12)).toEqual(['shadow'])
  expect(operatorTrials(model, 14)).toEqual([])
  expect(operatorTrials(modelWith({ canary: trial(15, 'up_1') }), 15)).toEqual([])
})

test('a trial starts of a mask with a file that is not active, unless an update has a canary', () => {
  expect(mayStartTrial(modelWith(), maskOf(13))).toBe(true)
  expect(mayStartTrial(modelWith(), maskOf(14))).toBe(false)
  expect(mayStartTrial(modelWith(), maskOf(13, '2026-11-28T02:00:00Z'))).toBe(false)
  expect(mayStartTrial(modelWith({ canary: trial(15, 'up_1') }), maskOf(13))).toBe(false)
  expect(mayStartTrial(modelWith({ canary: trial(15, null) }), maskOf(13))).toBe(true)
})

test('a share is a per cent above 0 and at most 100', () => {
  const share = (text: string) => parseShare('shadow', text)
  expect(['10', ' 2.5 % ', '100'].map(share)).toEqual([0.1, 0.025, 1])
  expect(['', '0', '-1', '101', 'half'].map(share)).toEqual(Array(5).fill(undefined))
  expect(['90', '91'].map((text) => parseShare('canary', text))).toEqual([0.9, undefined])
  expect(MAX_PERCENT.canary / 100).toBe(MAX_CANARY_SHARE)
})

test('a trial says what it does, what it replaces and how it ends', () => {
  const model = modelWith({ canary: trial(15, null) })
  const start = startConsequences('canary', model, 13).join(' ')
  expect(start).toContain('Mask 13 answers this share of the conversations of m, and mask 14 the others.')
  expect(start).toContain('takes the place of the canary of mask 15')
  expect(startConsequences('canary', model, 15).join(' ')).not.toContain('takes the place')
  expect(startConsequences('shadow', model, 13).join(' ')).toContain('Clients do not notice it')
  expect(endConsequences('canary', modelWith({ active_version: 0 }))[0]).toContain(
    'The dense weights answer all conversations of m again, within some 2 seconds.',
  )
  expect(trialSentence('canary', 0.25, { ready: 1, alive: 2, errors: [] }).replaceAll('\u202F', ' ')).toBe(
    'Answers 25 % of the conversations, because an operator started it. 1 of 2 live nodes have loaded it.',
  )
})

test('a canary stands before the active mask, with its cost over dense', () => {
  const traffic = (version: number, changes: Partial<VersionTraffic>): VersionTraffic => ({
    mask_version: version,
    requests: 10,
    failed: 1,
    prompt_tokens: 1,
    completion_tokens: 1,
    time_to_first_token_ms: null,
    total_ms: null,
    scored_tokens: 5,
    nll_masked: 2.5,
    nll_dense: 2.25,
    ...changes,
  })
  const rows = canaryRows({
    model: 'm',
    active_version: 14,
    canary: trial(15, null),
    nodes: null,
    versions: [traffic(14, {}), traffic(15, { requests: 0, failed: 0, nll_masked: null })],
  })
  expect(rows.map(({ mask_version: version, failedShare, cost }) => [version, failedShare, cost])).toEqual([
    [15, null, null],
    [14, 0.1, 0.25],
  ])
})

test('the domains of a shadow are sorted by scored tokens, with the change of the loss of prompts', () => {
  const domain = (name: string, tokens: number, shadow: number | null) => ({
    domain: name,
    requests: 1,
    prompt: { tokens, nll_active: 2, nll_shadow: shadow },
    answer: { tokens: 1, nll_active: 1, nll_shadow: 9 },
  })
  const rows = shadowRows({
    model: 'm',
    active_version: 14,
    shadow: trial(12, null),
    nodes: null,
    domains: [domain('code', 5, null), domain('speech', 50, 2.5)],
  })
  expect(rows.map(({ domain: name, change }) => [name, change])).toEqual([
    ['speech', 0.5],
    ['code', null],
  ])
})
