import { describe, expect, test } from 'vitest'
import { checkPatterns, expandPatterns } from '../../../../gpu-node/src/pruning/selection/mask-patterns.ts'
import { linearShapes } from '../../../../gpu-node/src/model/config/llama-config.ts'
import type { LlamaConfig } from '../../../../gpu-node/src/model/config/llama-config.ts'

const config = { layers: 12, hiddenSize: 48, intermediateSize: 100, heads: 6, kvHeads: 2, headDim: 8 }
const llama = config as LlamaConfig
const names = [...linearShapes(llama).keys()]
const base = { pattern: '0.5', scope: 'row' } as const

test('a model has seven linears per block, in forward order', () => {
  expect(names).toHaveLength(12 * 7)
  expect(names[0]).toBe('model.layers.0.self_attn.q_proj.weight')
  expect(linearShapes(llama).get('model.layers.11.mlp.down_proj.weight')).toEqual([48, 100])
})

describe('rules for single linears', () => {
  test('match by name, or with any characters for each *; the last match applies', () => {
    const patterns = expandPatterns(llama, {
      '*.down_proj.weight': '0.4',
      'model.layers.1.*': 'dense',
      'model.layers.*1.self_attn.q*': '2:4',
      'model.layers.3.mlp.up_proj.weight': '0.7',
    })
    const of = (name: string) => patterns[`model.layers.${name}.weight`]
    expect(Object.keys(patterns)).toHaveLength(12 + 6 + 1 + 1)
    expect(of('0.mlp.down_proj')).toBe('0.4')
    expect(of('1.mlp.down_proj')).toBe('dense')
    expect(of('10.mlp.up_proj')).toBeUndefined()
    expect(of('1.self_attn.q_proj')).toBe('2:4')
    expect(of('11.self_attn.q_proj')).toBe('2:4')
    expect(of('3.mlp.up_proj')).toBe('0.7')
  })

  test('a * does not count the same characters twice', () => {
    expect(() => expandPatterns(llama, { 'model.layers.3.mlp.up_proj.weight*weight': '0.5' })).toThrow(
      'No linear of this model matches',
    )
    expect(Object.keys(expandPatterns(llama, { '*': 'dense' }))).toEqual(names)
    expect(Object.keys(expandPatterns(llama, { '*.layers.2.*proj.w*t': 'dense' }))).toHaveLength(7)
  })

  test('may be empty', () => {
    expect(expandPatterns(llama, {})).toEqual({})
  })

  test.each([
    [{ 'model.layers.12.*': '0.5' }, "No linear of this model matches 'model.layers.12.*'."],
    [{ '*.lm_head.weight': 'dense' }, "The first linear is 'model.layers.0.self_attn.q_proj.weight'"],
    [{ 'model.layers.3.mlp.up_prj.weight': 'dense' }, "Did you mean 'model.layers.3.mlp.up_proj.weight'?"],
    [{ '*': 0.5 }, "The pattern of '*' is not a string"],
    [{ '*': '1.5' }, "The pattern of '*': '1.5' is not a sparsity pattern"],
    [{ '*': 'sparse' }, "or 'dense'."],
    [['*'], 'must be an object'],
    ['0.5', 'must be an object'],
    [null, 'must be an object'],
  ])('%j is an error', (rules, message) => {
    expect(() => expandPatterns(llama, rules)).toThrow(
      expect.objectContaining({
        code: 'invalid_request',
        param: 'patterns',
        message: expect.stringContaining(message) as string,
      }) as Error,
    )
  })
})

describe('patterns of a selection', () => {
  test('are those of each linear, else the common one; null for dense linears', () => {
    const [q, k] = names as [string, string]
    const patterns = checkPatterns(llama, { ...base, patterns: { [q]: '2:4', [k]: 'dense' } })
    expect([...patterns.keys()]).toEqual(names)
    expect(patterns.get(q)).toEqual({ kind: 'n:m', keep: 2, group: 4 })
    expect(patterns.get(k)).toBeNull()
    expect(patterns.get(names[2]!)).toEqual({ kind: 'ratio', ratio: 0.5 })
  })

  test('may be a common pattern that does not fit linears with patterns of their own', () => {
    const pattern = { ...base, pattern: '2:16' }
    expect(() => checkPatterns(llama, pattern)).toThrow(
      expect.objectContaining({
        param: 'pattern',
        message: expect.stringMatching(
          /^Linear 'model.layers.0.mlp.down_proj.weight': 100 columns/,
        ) as string,
      }) as Error,
    )
    const patterns = expandPatterns(llama, { '*.down_proj.weight': '1:2' })
    expect(checkPatterns(llama, { ...pattern, patterns }).size).toBe(names.length)
  })

  test('are an error if one does not fit or names no linear, or if no linear is pruned', () => {
    const down = 'model.layers.4.mlp.down_proj.weight'
    for (const [patterns, message] of [
      [{ [down]: '3:7' }, `Linear '${down}': 100 columns are not a multiple of 7`],
      [
        { 'model.layers.4.mlp.down.weight': '0.5' },
        "No linear of this model matches 'model.layers.4.mlp.down.weight'",
      ],
      [expandPatterns(llama, { '*': 'dense' }), 'Every linear is left dense'],
    ] as const) {
      expect(() => checkPatterns(llama, { ...base, patterns })).toThrow(
        expect.objectContaining({
          code: 'invalid_request',
          param: 'patterns',
          message: expect.stringContaining(message) as string,
        }) as Error,
      )
    }
  })
})
