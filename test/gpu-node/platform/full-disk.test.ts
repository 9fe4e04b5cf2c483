import { expect, test } from 'vitest'
import { explainFullDisk } from '../../../gpu-node/src/platform/full-disk.ts'

const explain = (error: unknown) => explainFullDisk(error, '/x', 'for a mask', 'name another folder')

test.each(['ENOSPC', 'EDQUOT'])('%s is an error that says what did not fit and what to do', (code) => {
  const full = Object.assign(new Error('write'), { code })
  expect(explain(full)).toMatchObject({
    code: 'internal_error',
    message: 'No disk space left in /x for a mask. Free some, or name another folder.',
    cause: full,
  })
})

test('other errors are returned unchanged', () => {
  const other = Object.assign(new Error('write'), { code: 'EIO' })
  expect(explain(other)).toBe(other)
})
