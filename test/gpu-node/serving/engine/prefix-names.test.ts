/** Beginnings of prompts that are computed once and told of. */
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { GenerateRequest } from '../../../../gpu-node/src/serving/engine/generation-request.ts'
import { read, request, setup, when } from '../../../support/doubles/arithmetic-engine.ts'

test('how many tokens of a prompt were cached is told, and only to the partition that had it', async () => {
  const { backend, engine } = setup()
  engine.setActive(backend.weights(1))
  const prompt = Array.from({ length: 70 }, (_, index) => index)
  const cachedOf = async (partition: string | undefined) => {
    const { finished } = await read(engine.generate(request(prompt, { partition })))
    return finished?.type === 'finished' ? finished.cachedTokens : undefined
  }
  expect(await cachedOf('a')).toBe(0)
  expect(await cachedOf('a')).toBe(64)
  expect(await cachedOf('b')).toBe(0)
  expect(await cachedOf(undefined)).toBe(0)
  engine.setActive(backend.weights(2))
  expect(await cachedOf('a')).toBe(0)
})

describe('beginnings of prompts', () => {
  const prompt = Array.from({ length: 70 }, (_, index) => index)
  const named = (...names: string[]) => names.map((name, index) => ({ name, tokens: 32 * (index + 1) }))

  test('are told by their names once they were fed, as long as weights and pages are there', async () => {
    const { backend, engine } = setup({ policy: { kvTokens: 128 } })
    expect(engine.heldBeginnings()).toBeNull()
    const first = backend.weights(1)
    engine.setActive(first)
    expect(engine.heldBeginnings()).toEqual([])
    const run = (tokens: readonly number[], fields: Partial<GenerateRequest>) =>
      read(engine.generate(request(tokens, { partition: 'a', ...fields })))
    await run(prompt, { beginnings: named('x', 'y') })
    await run(prompt.slice(0, 33).toReversed(), { beginnings: named('unshared'), partition: undefined })
    expect(engine.heldBeginnings()).toEqual([{ version: 1, keys: ['x', 'y'] }])
    // More pages are wanted than are free: the end of the first prompt goes.
    await run(prompt.slice(20, 60).toReversed(), { beginnings: named('z'), maxTokens: 40 })
    expect(engine.heldBeginnings()).toEqual([{ version: 1, keys: ['x', 'z'] }])
    await run(prompt, { beginnings: named('x') })
    expect(engine.heldBeginnings()).toMatchObject([{ keys: expect.arrayContaining(['x']) }])

    engine.setActive(backend.weights(2))
    await run(prompt.slice(0, 40), { beginnings: named('x') })
    expect(engine.heldBeginnings()?.map(({ version }) => version)).toContain(2)
    backend.kill(first)
    await when(() => engine.heldBeginnings()?.length === 1)
    expect(engine.heldBeginnings()).toEqual([{ version: 2, keys: ['x'] }])
  })

  test('of a request that ended before its prompt was fed, or shorter than a page, are not', async () => {
    const { backend, engine } = setup({ onStep: () => sleep(2), policy: { prefillChunk: 16 } })
    engine.setActive(backend.weights(1))
    const abort = new AbortController()
    const beginnings = named('left')
    const left = engine.generate(request(prompt, { partition: 'a', beginnings, signal: abort.signal }))
    await when(() => backend.plans.length > 0)
    abort.abort()
    await expect(read(left)).rejects.toMatchObject({ code: 'client_closed_request' })
    const short = [{ name: 'short', tokens: 15 }]
    await read(engine.generate(request(prompt, { partition: 'a', beginnings: short })))
    expect(engine.heldBeginnings()).toEqual([])
  })

  test('are told of as many as a heartbeat may hold, those used last', async () => {
    const { backend, engine } = setup({ policy: { kvTokens: 128 } })
    engine.setActive(backend.weights(1))
    const names = Array.from({ length: 300 }, (_, index) => `name-${index}`)
    const beginnings = names.map((name) => ({ name, tokens: 32 }))
    await read(engine.generate(request(prompt, { partition: 'a', beginnings })))
    await read(engine.generate(request(prompt, { partition: 'a', beginnings: beginnings.slice(50, 51) })))
    const [held] = engine.heldBeginnings() ?? []
    expect(held?.keys).toEqual([...names.slice(44, 50), ...names.slice(51), 'name-50'])
  })
})
