import { expect, test } from 'vitest'
import { runCommand } from '../../../../gpu-node/cli/program.ts'
import { recordedTerminal } from '../../../support/doubles/recorded-terminal.ts'

test('an empty prompt on standard input is an error, and nothing is sent', async () => {
  // Nobody listens there: a prompt that were sent would fail in another way.
  const env = { COPAL_BASE_URL: 'http://127.0.0.1:1', COPAL_API_KEY: 'k' }
  const terminal = recordedTerminal({ env, stdin: '\n' })
  expect(await runCommand(['generate', '-'], terminal)).toBe(1)
  expect(terminal.errors()).toBe('copal: The prompt on standard input is empty.\n')
})
