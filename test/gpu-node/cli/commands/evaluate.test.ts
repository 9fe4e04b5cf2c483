import { join } from 'node:path'
import { expect, test } from 'vitest'
import { copal } from '../../../support/doubles/copal-command.ts'

const TEXT = join(import.meta.dirname, '../../../../LICENSE')

test('an evaluation that waits for its node says so until the windows are counted', async () => {
  const progressOf = async (windowsDone: number, windowsTotal: number) => {
    const event = { type: 'progress', windowsDone, windowsTotal }
    return (await copal(event, ['evaluate', TEXT], { piped: true })).stderr
  }
  expect(await progressOf(0, 0)).toMatch(/LICENSE {4}0 % {2}waiting for the node\n/)
  expect(await progressOf(1, 2)).toMatch(/LICENSE {3}50 % {2}1 of 2 windows\n/)
})
