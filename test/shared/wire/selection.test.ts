import { describe, expect, test } from 'vitest'
import { selectionSpec } from '@copal/shared/wire/selection.ts'

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
