import { describe, expect, test } from 'vitest'
import type { WeightSet } from '../../../../gpu-node/src/serving/contract/backend.ts'
import { checkInvariants } from '../../../support/engine/engine-invariants.ts'
import { createPolicy } from '../../../../gpu-node/src/serving/engine/engine-policy.ts'
import type { Request } from '../../../../gpu-node/src/serving/engine/engine-request.ts'
import {
  createState,
  endRequest,
  forgetWeights,
  kvTokensUsed,
  type EngineState,
} from '../../../../gpu-node/src/serving/engine/engine-state.ts'
import { generate, step, weightSet } from '../../../support/doubles/scheduled-steps.ts'

function feed(
  state: EngineState,
  weights: WeightSet,
  policy: ReturnType<typeof createPolicy>,
  length: number,
  partition: string | null,
) {
  const request = generate(state, length, partition)
  const pieces: [from: number, to: number][] = []
  while (request.status.kind !== 'decode') {
    for (const work of step(state, weights, policy).planned.work)
      if (work.request === request) pieces.push([work.from, work.to])
  }
  endRequest(state, request)
  return pieces
}

describe('a prompt whose prefix was prefilled before', () => {
  const policy = createPolicy(1000, { kvTokens: 1600, prefillChunk: 64, maxRunning: 4 })
  const open = () => {
    const state = createState(policy)
    const a = weightSet(1)
    state.active = a
    return { state, a }
  }

  test('starts after its last full cached page, and always feeds its last token', () => {
    const { state, a } = open()
    expect(feed(state, a, policy, 100, 'a')).toEqual([
      [0, 64],
      [64, 100],
    ])
    expect(feed(state, a, policy, 150, 'a')).toEqual([
      [96, 128],
      [128, 150],
    ])
    expect(feed(state, a, policy, 100, 'a')).toEqual([[96, 100]])
    expect(feed(state, a, policy, 96, 'a')).toEqual([[80, 96]])
    expect(kvTokensUsed(state)).toBe(0)
  })

  test('by another partition, or by none, is prefilled completely', () => {
    const { state, a } = open()
    feed(state, a, policy, 60, 'a')
    expect(feed(state, a, policy, 60, 'b')).toEqual([[0, 60]])
    expect(feed(state, a, policy, 60, null)).toEqual([[0, 60]])
    expect(feed(state, a, policy, 60, null)).toEqual([[0, 60]])
    expect(feed(state, a, policy, 60, 'b')).toEqual([[48, 60]])
  })

  test('on other weights is prefilled completely, and released weights leave nothing cached', () => {
    const { state, a } = open()
    feed(state, a, policy, 60, 'a')
    const b = weightSet(2)
    state.active = b
    expect(feed(state, b, policy, 60, 'a')).toEqual([[0, 60]])
    forgetWeights(state, a)
    expect(state.pages.keys.size).toBe(3)
    checkInvariants(state, policy)
  })

  test('on weights without pages is prefilled completely', () => {
    const { state } = open()
    const unpaged: WeightSet = { ...weightSet(3), paged: false }
    state.active = unpaged
    feed(state, unpaged, policy, 60, 'a')
    expect(feed(state, unpaged, policy, 60, 'a')).toEqual([[0, 60]])
  })

  test('shares pages of a running request, which remain when that request ends', () => {
    const { state, a } = open()
    const first = generate(state, 70, 'a')
    step(state, a, policy)
    step(state, a, policy)
    const second = generate(state, 90, 'a')
    const { planned } = step(state, a, policy)
    expect(planned.work.find(({ request }) => request === second)).toMatchObject({ from: 64, to: 90 })
    endRequest(state, first)
    checkInvariants(state, policy)
    step(state, a, policy)
    // 91 tokens, of which four pages are shared with the first request.
    expect(kvTokensUsed(state)).toBe(96)
  })

  test('waits while another request prefills it, and blocks no other meanwhile', () => {
    const { state, a } = open()
    const first = generate(state, 150, 'a')
    const same = generate(state, 150, 'a')
    const longer = generate(state, 200, 'a')
    const stranger = generate(state, 30, 'b')
    const fed = new Map<Request, [number, number][]>([first, same, longer, stranger].map((one) => [one, []]))
    while ([first, same, longer, stranger].some(({ status }) => status.kind !== 'decode'))
      for (const { request, from, to } of step(state, a, policy).planned.work)
        if (from < request.promptTokens) fed.get(request)?.push([from, to])
    expect([...fed.values()]).toEqual([
      [
        [0, 64],
        [64, 128],
        [128, 150],
      ],
      [[144, 150]],
      [
        [144, 192],
        [192, 200],
      ],
      [[0, 30]],
    ])
    expect(stranger.turn).toBeLessThan(same.turn)
  })

  test('is continued by the next request that needs it when the first one ends', () => {
    const { state, a } = open()
    const first = generate(state, 150, 'a')
    const second = generate(state, 150, 'a')
    const third = generate(state, 150, 'a')
    step(state, a, policy)
    endRequest(state, first)
    const { planned } = step(state, a, policy)
    expect(planned.work.map(({ request, from, to }) => [request, from, to])).toEqual([[second, 64, 128]])
    step(state, a, policy)
    expect(step(state, a, policy).planned.work.at(-1)).toMatchObject({ request: third, from: 144, to: 150 })
  })

  test('is prefilled again where its pages were evicted: the least recently used first, from their end', () => {
    const small = createPolicy(160, { kvTokens: 160, prefillChunk: 64, maxRunning: 4 })
    const state = createState(small)
    const a = weightSet(1)
    state.active = a
    feed(state, a, small, 64, 'old')
    feed(state, a, small, 64, 'new')
    // Two pages are free, and four of each partition are cached, so three of the older ones are evicted.
    feed(state, a, small, 80, null)
    expect(feed(state, a, small, 64, 'new')).toEqual([[48, 64]])
    expect(feed(state, a, small, 64, 'old')).toEqual([[16, 64]])
  })
})
