/** Tests prompt prefixes that are computed once and reported. */
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { GenerateRequest } from '../../../../gpu-node/src/serving/engine/generation-request.ts'
import {
  readGeneration,
  request,
  startArithmeticEngine,
  untilTrue,
} from '../../../support/doubles/arithmetic-engine.ts'

test('the cached tokens of a prompt are reported, and only to the partition that computed them', async () => {
  const { backend, engine } = startArithmeticEngine()
  engine.setActive(backend.weights(1))
  const prompt = Array.from({ length: 70 }, (_, index) => index)
  const cachedOf = async (partition: string | undefined) => {
    const { finished } = await readGeneration(engine.generate(request(prompt, { partition })))
    return finished?.type === 'finished' ? finished.cachedTokens : undefined
  }
  expect(await cachedOf('a')).toBe(0)
  expect(await cachedOf('a')).toBe(64)
  expect(await cachedOf('b')).toBe(0)
  expect(await cachedOf(undefined)).toBe(0)
  engine.setActive(backend.weights(2))
  expect(await cachedOf('a')).toBe(0)
})

describe('prefixes of prompts', () => {
  const prompt = Array.from({ length: 70 }, (_, index) => index)
  const named = (...names: string[]) => names.map((name, index) => ({ name, tokens: 32 * (index + 1) }))

  test('are reported by name once prefilled, as long as their weights and pages are held', async () => {
    const { backend, engine } = startArithmeticEngine({ policy: { kvTokens: 128 } })
    expect(engine.cachedPrefixes()).toBeNull()
    const first = backend.weights(1)
    engine.setActive(first)
    expect(engine.cachedPrefixes()).toEqual([])
    const run = (tokens: readonly number[], fields: Partial<GenerateRequest>) =>
      readGeneration(engine.generate(request(tokens, { partition: 'a', ...fields })))
    await run(prompt, { prefixes: named('x', 'y') })
    await run(prompt.slice(0, 33).toReversed(), { prefixes: named('unshared'), partition: undefined })
    expect(engine.cachedPrefixes()).toEqual([{ version: 1, keys: ['x', 'y'] }])
    // More pages are needed than are free, so the end of the first prompt is evicted.
    await run(prompt.slice(20, 60).toReversed(), { prefixes: named('z'), maxTokens: 40 })
    expect(engine.cachedPrefixes()).toEqual([{ version: 1, keys: ['x', 'z'] }])
    await run(prompt, { prefixes: named('x') })
    expect(engine.cachedPrefixes()).toMatchObject([{ keys: expect.arrayContaining(['x']) }])

    engine.setActive(backend.weights(2))
    await run(prompt.slice(0, 40), { prefixes: named('x') })
    expect(engine.cachedPrefixes()?.map(({ version }) => version)).toContain(2)
    backend.kill(first)
    await untilTrue(() => engine.cachedPrefixes()?.length === 1)
    expect(engine.cachedPrefixes()).toEqual([{ version: 2, keys: ['x'] }])
  })

  test('of a request that ended before its prefill, or shorter than a page, are not reported', async () => {
    const { backend, engine } = startArithmeticEngine({
      onStep: () => sleep(2),
      policy: { prefillChunk: 16 },
    })
    engine.setActive(backend.weights(1))
    const abort = new AbortController()
    const prefixes = named('left')
    const left = engine.generate(request(prompt, { partition: 'a', prefixes, signal: abort.signal }))
    await untilTrue(() => backend.plans.length > 0)
    abort.abort()
    await expect(readGeneration(left)).rejects.toMatchObject({ code: 'client_closed_request' })
    const short = [{ name: 'short', tokens: 15 }]
    await readGeneration(engine.generate(request(prompt, { partition: 'a', prefixes: short })))
    expect(engine.cachedPrefixes()).toEqual([])
  })

  test('are reported up to the limit of a heartbeat, the most recently used', async () => {
    const { backend, engine } = startArithmeticEngine({ policy: { kvTokens: 128 } })
    engine.setActive(backend.weights(1))
    const names = Array.from({ length: 300 }, (_, index) => `name-${index}`)
    const prefixes = names.map((name) => ({ name, tokens: 32 }))
    await readGeneration(engine.generate(request(prompt, { partition: 'a', prefixes })))
    await readGeneration(
      engine.generate(request(prompt, { partition: 'a', prefixes: prefixes.slice(50, 51) })),
    )
    const [held] = engine.cachedPrefixes() ?? []
    expect(held?.keys).toEqual([...names.slice(44, 50), ...names.slice(51), 'name-50'])
  })
})
