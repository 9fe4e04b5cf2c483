import { expect, test } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import { explainFullDisk } from '../../../../gpu-node/lab/run/explain-full-disk.ts'

const full = Object.assign(new Error('write'), { code: 'ENOSPC' })

test.each([
  ['as the system says it', full],
  ['as calibration explains it', new AppError('internal_error', 'No disk space left in /x', { cause: full })],
  [
    'as it comes from the process of a weight set',
    new AppError('node_failed', 'The weight set failed: ENOSPC: no space left on device, write'),
  ],
])('a full disk, %s, is one line that says how to go on', (_what, error) => {
  expect(explainFullDisk(error)).toMatchObject({
    code: 'internal_error',
    message: expect.stringMatching(/^No disk space is left.*run the same command again\.$/) as string,
  })
})

test('of one mask nothing is kept, and its folder is named', () => {
  expect(explainFullDisk(full, 'a mask in /x')).toMatchObject({
    message: 'No disk space is left for a mask in /x: free some space and run the same command again.',
  })
})

test('anything else stays what it is', () => {
  const other = new AppError('node_failed', 'The weight set failed: EPIPE')
  expect(explainFullDisk(other)).toBe(other)
  expect(explainFullDisk('x')).toBe('x')
})
