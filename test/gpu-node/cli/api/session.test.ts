import { expect, test } from 'vitest'
import { createSession } from '../../../../gpu-node/cli/api/session.ts'
import { createProgressBar } from '../../../../gpu-node/cli/output/progress-bar.ts'
import { recordedTerminal } from '../../../support/doubles/recorded-terminal.ts'

const NAME = 'safe\u202eelif\u200b'

test('text for people has no unseen characters, and JSON keeps them', () => {
  const terminal = recordedTerminal()
  const { print } = createSession(terminal)
  print(false, { name: NAME }, () => `${NAME}\n\tnext`)
  expect(terminal.output()).toBe('safe?elif?\n\tnext\n')
  print(true, { name: NAME }, String)
  expect(terminal.output()).toContain(JSON.stringify(NAME))
})

test.each([true, false])('a progress bar has none either, at a terminal: %s', (isTTY) => {
  let shown = ''
  const bar = createProgressBar({ write: (text) => (shown += text), isTTY, columns: 80 })
  bar.update(NAME, 0.5, NAME)
  bar.end(NAME)
  expect(shown).not.toMatch(/[\u202e\u200b]/u)
  expect(shown.match(/safe\?elif\?/gu)).toHaveLength(3)
})
