import { expect, test } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import { explainFullDisk } from '../../../../gpu-node/lab/run/explain-full-disk.ts'

const full = Object.assign(new Error('write'), { code: 'ENOSPC' })

test.each([
  ['as a system error', full],
  ['as an error of calibration', new AppError('internal_error', 'No disk space left in /x', { cause: full })],
  [
    "as an error of a weight set's process",
    new AppError('node_failed', 'The weight set failed: ENOSPC: no space left on device, write'),
  ],
])('a full disk, %s, becomes one line that says how to continue', (_what, error) => {
  expect(explainFullDisk(error)).toMatchObject({
    code: 'internal_error',
    message: expect.stringMatching(/^No disk space is left.*run the same command again\.$/) as string,
  })
})

test('a full disk while writing one mask names its folder and promises no finished work', () => {
  expect(explainFullDisk(full, 'a mask in /x')).toMatchObject({
    message: 'No disk space is left for a mask in /x. Free some space and run the same command again.',
  })
})

test('any other error is returned unchanged', () => {
  const other = new AppError('node_failed', 'The weight set failed: EPIPE')
  expect(explainFullDisk(other)).toBe(other)
  expect(explainFullDisk('x')).toBe('x')
})
