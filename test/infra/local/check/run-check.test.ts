import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { runCheck, toolCommand } from '../../../../infra/local/check/run-check.ts'

const node = (script: string) => ({ command: process.execPath, args: ['-e', script] })

test.each([
  ['oxfmt', undefined],
  ['oxlint', undefined],
  ['tsc', 'typescript'],
  ['knip', undefined],
])('%s runs without a shell and without a batch file', (tool, from) => {
  const { command, args } = toolCommand(tool, ['--version'], from)
  expect(command).toBe(process.execPath)
  expect(spawnSync(command, args, { encoding: 'utf8' })).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/\d+\.\d+/) as string,
  })
})

test('a check that fails, is killed or cannot be started says why', () => {
  expect(runCheck(node(''))).toBeUndefined()
  expect(runCheck(node('process.exit(2)'))).toBe('see above')
  expect(runCheck(node("process.kill(process.pid, 'SIGKILL')"))).toBe('it was ended by SIGKILL')
  expect(runCheck({ command: 'copal-no-such-tool', args: [] })).toMatch(/cannot be started: .*ENOENT/)
})
