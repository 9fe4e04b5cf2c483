import { expect, test } from 'vitest'
import {
  compareProbes,
  NODE_TOLERANCE,
  OWN_TOLERANCE,
  type ComparedProbe,
} from '../../../../../gateway/src/adaptation/drift/probes/compare-probes.ts'

const probe = (nodeId: string, nll: number, changes: Partial<ComparedProbe> = {}): ComparedProbe => ({
  nodeId,
  tokens: 512,
  nll,
  firstNll: nll,
  ...changes,
})
const wrong = (scores: readonly ComparedProbe[], before: string[] = []) =>
  compareProbes(scores, new Set(before)).flatMap(({ nodeId, mismatch }) =>
    mismatch ? [[nodeId, mismatch]] : [],
  )

test('nodes whose kernels differ a little match, and the one that differs more does not', () => {
  const near = [probe('a', 3.2), probe('b', 3.2 + NODE_TOLERANCE * 0.9), probe('c', 3.21)]
  expect(wrong(near)).toEqual([])
  expect(wrong([...near, probe('d', 3.4)])).toEqual([['d', 'nodes']])
  expect(compareProbes(near)[0]).toMatchObject({ expected: 3.21 })
})

test('of two nodes that differ the one with the higher loss is wrong', () => {
  expect(wrong([probe('a', 3.5), probe('b', 3.2)])).toEqual([['a', 'nodes']])
})

test('a node that is alone is wrong when its score changes', () => {
  expect(compareProbes([probe('a', 3.2)])).toMatchObject([{ expected: undefined, mismatch: undefined }])
  expect(wrong([probe('a', 3.2 + 2 * OWN_TOLERANCE, { firstNll: 3.2 })])).toEqual([['a', 'own']])
})

test('a node that was wrong matches again within half the tolerance', () => {
  const scores = [probe('a', 3.2), probe('b', 3.2), probe('c', 3.2 + 0.7 * NODE_TOLERANCE)]
  expect(wrong(scores)).toEqual([])
  expect(wrong(scores, ['c'])).toEqual([['c', 'nodes']])
  expect(wrong([probe('a', 3.2), probe('b', 3.2), probe('c', 3.21)], ['c'])).toEqual([])
})

test('scores over other texts are not compared', () => {
  expect(wrong([probe('a', 3.2), probe('b', 4.1, { tokens: 300 })])).toEqual([])
})
