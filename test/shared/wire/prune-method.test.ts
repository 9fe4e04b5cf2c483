import { expect, test } from 'vitest'
import { pruneMethod } from '@copal/shared/wire/prune-method.ts'

test.each(['magnitude', 'continual-wanda+swaps', 'a2+b-3+reconstruct'])(
  '%s is a valid method name',
  (name) => {
    expect(pruneMethod.parse(name)).toBe(name)
  },
)

test.each(['', 'Wanda', '+swaps', 'wanda+', 'wanda++swaps', 'wanda swaps', '2wanda', 'w'.repeat(65), 'w\n'])(
  '%j is not a valid method name',
  (name) => {
    expect(pruneMethod.safeParse(name).success).toBe(false)
  },
)
