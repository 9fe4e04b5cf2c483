import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createSession } from '../../../gpu-node/cli/api/session.ts'
import { createProgram } from '../../../gpu-node/cli/program.ts'
import { recordedTerminal } from '../../support/doubles/recorded-terminal.ts'

const ROOT = join(import.meta.dirname, '..', '..', '..')
const FOLDERS = [
  'gateway/dashboard',
  'gateway/src',
  'gpu-node/cli',
  'gpu-node/lab',
  'gpu-node/src',
  'infra',
  'shared/src',
]

/** Texts that are hashed with a secret, which look like commands. */
const HASHED = ['copal audit row ', 'copal audit checkpoint ', 'copal dashboard ${']

test("texts name commands as they are called, like 'npx copal status'", async () => {
  const program = await createProgram(createSession(recordedTerminal()), { lab: false })
  const commands = program.commands.map((command) => command.name()).join('|')
  const bare = new RegExp(String.raw`(?<![\w./-]|npx )copal (?:(?:${commands})\b|--help\b)`)
  const found = FOLDERS.flatMap((folder) =>
    codeLines(folder).filter((line) => bare.test(line) && !HASHED.some((text) => line.includes(text))),
  )
  expect(found).toEqual([])
})

/** Returns the lines of a folder's sources that are no comments. */
function codeLines(folder: string): string[] {
  const names = readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
  return names
    .filter(
      (name) =>
        /\.(?:m?ts|tsx|mjs|yml|html)$/.test(name) && !/(?:^|[\\/])(?:node_modules|dist)[\\/]/.test(name),
    )
    .flatMap((name) => readFileSync(join(ROOT, folder, name), 'utf8').split('\n'))
    .filter((line) => !/^\s*(?:\/\/|\/?\*|#)/.test(line))
}
