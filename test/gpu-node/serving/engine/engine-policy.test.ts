import { expect, test } from 'vitest'
import { defaultKvTokens } from '../../../../gpu-node/src/serving/engine/engine-policy.ts'

/** The shape of LLaMA 3.1 8B: 131 kB of keys and values per token. */
const LARGE = { contextLength: 131_072, layers: 32, kvHeads: 8, headDim: 128 }
const SMALL = { contextLength: 8_192, layers: 30, kvHeads: 3, headDim: 64 }

test('keys and values get four contexts, or as many tokens as fit into a quarter of the free memory', () => {
  expect(defaultKvTokens(SMALL, 8e9)).toBe(4 * 8_192)
  expect(defaultKvTokens(LARGE, Infinity)).toBe(4 * 131_072)
  const tokens = defaultKvTokens(LARGE, 16e9)
  expect(tokens * 131_072).toBeLessThanOrEqual(4e9)
  expect(tokens).toBeGreaterThan(30_000)
  expect(defaultKvTokens(LARGE, 0)).toBe(1024)
  expect(defaultKvTokens({ ...SMALL, contextLength: 64 }, 0)).toBe(256)
})

test('keys and values in int8, with a scale of each head, get almost twice as many tokens', () => {
  const tokens = defaultKvTokens(LARGE, 16e9, { kvPrecision: 'int8' })
  expect(tokens).toBe(Math.floor(4e9 / (2 * 32 * 8 * (128 + 4))))
  expect(tokens / defaultKvTokens(LARGE, 16e9)).toBeCloseTo(1.94, 2)
})

test('the keys of a layer fit the largest buffer of a device, with the pages of scoring and self-tests', () => {
  const shape = { contextLength: 4096, layers: 32, kvHeads: 32, headDim: 128 }
  expect(defaultKvTokens(shape, Infinity)).toBe(4 * 4096)
  const tokens = defaultKvTokens(shape, Infinity, { maxBufferBytes: 2 ** 27 })
  expect((tokens + 512 + 256) * 32 * 128 * 2).toBeLessThanOrEqual(2 ** 27)
  expect(tokens).toBeGreaterThan(15_000)
  expect(defaultKvTokens(shape, Infinity, { maxBufferBytes: 1000 })).toBe(1024)
})
