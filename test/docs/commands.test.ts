import { expect, test } from 'vitest'
import { createProgram } from '../../gpu-node/cli/program.ts'
import { createSession } from '../../gpu-node/cli/api/session.ts'
import { recordedTerminal } from '../support/doubles/recorded-terminal.ts'
import { readText, ROOT } from './markdown.ts'

const PAGE = 'docs/commands.md'
const UPDATE = 'npx vitest run --project unit test/docs/commands.test.ts --update'

test(`${PAGE} lists every command (to update it: ${UPDATE})`, async () => {
  const page = readText(PAGE)
  expect(page).toContain('<!-- commands -->')
  const rows = (await listCommands()).map(([line, description]) => `| \`${line}\` | ${description} |\n`)
  const table = `| Command | What it does |\n| --- | --- |\n${rows.join('')}`
  const updated = page.replace(
    /<!-- commands -->\n[\s\S]*?<!-- end -->/,
    () => `<!-- commands -->\n${table}<!-- end -->`,
  )
  await expect(updated).toMatchFileSnapshot(`${ROOT}/${PAGE}`)
})

/** Returns each command line with its arguments, and its description. */
async function listCommands(): Promise<[line: string, description: string][]> {
  const lines: [string, string][] = []
  const visit = (command: Program, names: string): void => {
    const args = command.registeredArguments.map((argument) => ` ${shown(argument)}`).join('')
    lines.push([`${names}${args}`, command.description()])
    for (const below of command.commands) visit(below, `${names} ${below.name()}`)
  }
  const program = await createProgram(createSession(recordedTerminal()))
  for (const command of program.commands) visit(command, `copal ${command.name()}`)
  return lines
}

type Program = Awaited<ReturnType<typeof createProgram>>

function shown(argument: Program['registeredArguments'][number]): string {
  const name = `${argument.name()}${argument.variadic ? '...' : ''}`
  return argument.required ? `<${name}>` : `[${name}]`
}
