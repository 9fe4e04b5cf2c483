import { expect, test } from 'vitest'
import { formBytes } from '../../../../../gpu-node/src/serving/backends/sparse/weight-bytes.ts'

test('bytes of the forms follow the precision and the share that is kept', () => {
  expect(formBytes('bf16', 1024, 0.5)).toEqual({ packed: 1152, dense: 2048 })
  expect(formBytes('int8', 1024, 0.5)).toEqual({ packed: 672, dense: 1056 })
  expect(formBytes('int4', 1024, 0.5)).toEqual({ packed: 454, dense: 640 })
  expect(formBytes('int4', 1024, 1)).toEqual({ packed: 704, dense: 640 })
})
