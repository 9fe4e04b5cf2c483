import { describe, expect, test } from 'vitest'
import { heartbeat, selectionSpec } from '@copal/shared/wire/node-rpc.ts'

const selection = { method: 'copal', pattern: '0.5' }

describe('a selection', () => {
  test('defaults to rows, without exceptions for single linears', () => {
    expect(selectionSpec.parse(selection)).toEqual({ ...selection, scope: 'row' })
  })

  test('accepts another pattern for single linears, or dense', () => {
    const patterns = { a: '2:4', b: 'dense', c: '0.3' }
    expect(selectionSpec.parse({ ...selection, patterns }).patterns).toEqual(patterns)
  })

  test.each(['1.0', '4:2', 'sparse', ''])(
    'with the pattern %j of a linear is rejected and named',
    (pattern) => {
      const { error } = selectionSpec.safeParse({ ...selection, patterns: { a: '0.5', b: pattern } })
      expect(error?.issues[0]).toMatchObject({
        path: ['patterns', 'b'],
        message: expect.stringContaining(`'${pattern}' is not a sparsity pattern`) as string,
      })
    },
  )
})

test('a heartbeat may leave out the methods of its node; those that it names are checked', () => {
  const beat = {
    nodeId: 'n',
    url: 'http://127.0.0.1:1',
    draining: false,
    model: { id: 'tiny', baseSha256: 'a'.repeat(64), contextLength: 1, parameters: 1 },
    activeVersion: 0,
    weightSets: [],
    load: { running: 0, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 0 },
    requests: [],
    jobs: [],
  }
  expect(heartbeat.parse(beat).methods).toBeUndefined()
  expect(heartbeat.parse({ ...beat, methods: ['copal+swaps'] }).methods).toEqual(['copal+swaps'])
  expect(heartbeat.safeParse({ ...beat, methods: ['Copal'] }).success).toBe(false)
})
