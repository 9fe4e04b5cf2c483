import { expect, test } from 'vitest'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { createProgram } from '../../gpu-node/cli/program.ts'
import { createSession } from '../../gpu-node/cli/api/session.ts'
import { recordedTerminal } from '../support/doubles/recorded-terminal.ts'
import { readText, repositoryFiles, ROOT } from './markdown.ts'

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

test('commands that documents name exist, with their options', async () => {
  const program = await createProgram(createSession(recordedTerminal()))
  const named = repositoryFiles()
    .filter((path) => path.endsWith('.md') && path !== 'CHANGELOG.md')
    .flatMap((path) => commandsIn(readText(path)).map((line) => ({ path, line })))
  expect(named.length).toBeGreaterThan(200)
  const wrong = named.flatMap(({ path, line }) => {
    const fault = faultOf(program, line)
    return fault === undefined ? [] : [`${path}: ${line}: ${fault}`]
  })
  expect(wrong).toEqual([])
})

/** Other things that are called like a setting: an action of the audit log, and a field of the start of an update. */
const NO_SETTINGS = new Set(['statistics.lost', 'selection.patterns'])

test('settings of the policy that documents name exist', () => {
  const policy: Readonly<Record<string, unknown>> = PRESETS.production
  const named = repositoryFiles()
    .filter((path) => path.endsWith('.md'))
    .flatMap((path) =>
      [...readText(path).matchAll(/`(?:(?:npx )?copal policy set )?([a-z]+)\.([a-z_]+)(?:=[^`]*)?`/g)]
        .filter(([, part = '', field = '']) => part in policy && !NO_SETTINGS.has(`${part}.${field}`))
        .map(([, part = '', field = '']) => ({ path, part, field })),
    )
  expect(named.length).toBeGreaterThan(60)
  const unknown = named.filter(({ part, field }) => {
    const fields = policy[part]
    return typeof fields !== 'object' || fields === null || !(field in fields)
  })
  expect(unknown).toEqual([])
})

/** The calls of `copal` in the code blocks and the code style of a document. */
function commandsIn(markdown: string): string[] {
  const joined = markdown.replace(/\\\n\s*/g, ' ')
  const inLines = [...joined.matchAll(/^(?:.*\$\(|(?:[A-Z_]+=\S+ )+)?(?:npx )?copal ([^`\n]+)$/gm)]
  const inCode = [...markdown.matchAll(/`(?:npx )?copal ([^`]+)`/g)]
  return [...inLines, ...inCode].map(([, line = '']) => line.replace(/\s#.*$/, '').trim())
}

/** Returns what is wrong with the words after `copal`; undefined if they are right. */
function faultOf(program: Program, line: string): string | undefined {
  const words = line.split(/[\s)]+/)
  let command = program
  const options = [...program.options]
  while (command.commands.length > 0) {
    const [name] = words
    const below = command.commands.find((one) => one.name() === name)
    if (!below) break
    words.shift()
    command = below
    options.push(...command.options)
  }
  if (command === program && words[0] && !words[0].startsWith('-')) return `there is no command ${words[0]}`
  const known = new Set(['--help', ...options.map(({ long }) => long)])
  const unknown = words
    .map((word) => word.replace(/=.*$/, ''))
    .find((word) => word.startsWith('--') && !known.has(word))
  return unknown === undefined ? undefined : `there is no option ${unknown}`
}

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
