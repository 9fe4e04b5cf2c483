import { expect, test } from 'vitest'
import { createProgram, runCommand } from '../../../gpu-node/cli/program.ts'
import { createSession } from '../../../gpu-node/cli/api/session.ts'
import { recordedTerminal } from '../../support/doubles/recorded-terminal.ts'

type Command = Awaited<ReturnType<typeof createProgram>>
type Option = Command['options'][number]

/** Valid values of the arguments and options that are parsed, for lines in which another word is wrong. */
const RIGHT: Record<string, string> = {
  mask: 'm1',
  version: 'm1',
  '--domain': 'law=a.txt:b.txt',
  '--from-statistics': 'lab',
}
/** Options for which the command line accepts any text. */
const FREE = ['--leave-out', '--models', '--domains']

/** Each way in which the arguments of each command can be wrong. */
async function wrongLines(): Promise<string[][]> {
  const lines: string[][] = [['nonsense'], ['--nonsense'], []]
  const visit = (command: Command, path: string[]): void => {
    const { registeredArguments: all, options, commands } = command
    const given = (some: typeof all) => some.map((argument) => RIGHT[argument.name()] ?? 'x')
    const needed = given(all.filter(({ required }) => required))
    const mandatory = (but?: Option) =>
      options
        .filter((option) => option.mandatory && option !== but)
        .flatMap(({ long }) => [long ?? '', RIGHT[long ?? ''] ?? 'x'])
    const line = (...words: string[]) => lines.push([...path, ...words])

    line(...needed, ...mandatory(), '--nonsense')
    line(...needed, ...mandatory(), '-z')
    // A word after a command that takes an argument of its own is that argument.
    if (commands.length > 0 && all.length === 0) line('nonsense')
    else if (!all.some(({ variadic }) => variadic)) line(...given(all), ...mandatory(), 'more')
    if (needed.length > 0) {
      line(...mandatory())
      line(...needed.with(needed.length - 1, ''), ...mandatory())
    }
    for (const argument of all.filter(({ parseArg }) => parseArg))
      line(...given(all).with(all.indexOf(argument), 'no such thing'), ...mandatory())
    for (const option of options) {
      const name = option.long ?? ''
      const before = [...needed, ...mandatory(option)]
      if (option.mandatory) line(...before)
      if (option.isBoolean()) line(...before, `${name}=x`)
      if (!option.required) continue
      line(...before, name)
      const isRead = option.parseArg !== undefined || option.argChoices !== undefined
      if (isRead) line(...before, name, '')
      if (isRead && !FREE.includes(name)) line(...before, name, 'no such thing')
    }
    for (const below of commands) visit(below, [...path, below.name()])
  }
  for (const command of (await createProgram(createSession(recordedTerminal()))).commands)
    visit(command, [command.name()])
  return lines
}

test('every wrong argument of every command exits with 2 and points to the help', async () => {
  const lines = await wrongLines()
  expect(lines.length).toBeGreaterThan(300)
  const told: string[] = []
  for (const line of lines) {
    // An address where nobody listens: a command that goes on with them exits with 1.
    const env = { COPAL_BASE_URL: 'http://127.0.0.1:1', COPAL_ADMIN_KEY: 'a', COPAL_API_KEY: 'k' }
    const terminal = recordedTerminal({ env, cwd: '/nowhere' })
    const code = await runCommand(line, terminal)
    const helps = terminal.errors().includes(line.length === 0 ? 'Usage:' : 'Add --help')
    if (code !== 2 || !helps || terminal.output() !== '')
      told.push(`copal ${line.join(' ')}: ${code}, ${terminal.errors()}`)
  }
  expect(told).toEqual([])
})

test.each([
  { args: ['lab', 'compare', 'a'], says: 'name two results, or two methods of one result' },
  { args: ['lab', 'compare', 'a', 'b', '--methods', 'x,y'], says: 'compares within one result' },
  { args: ['lab', 'compare', 'a', '--methods', 'x'], says: 'Two different methods' },
  { args: ['lab', 'compare', 'a', '--methods', 'x,x'], says: 'Two different methods' },
  {
    args: ['keys', 'create', 'x', '--scopes', 'root'],
    says: 'Expected one of inference, read-metrics, admin, read-admin.',
  },
  { args: ['rollback', 'foo'], says: "argument '<version>' does not take 'foo'. A mask is a number" },
  { args: ['update', 'law', '--pattern', '3:2'], says: "option '--pattern <pattern>' does not take '3:2'. " },
  { args: ['keys', 'revoke', ''], says: "argument 'id' is empty" },
  { args: ['update', 'law', ''], says: "argument 'domain' is empty" },
  { args: ['domains', 'delete', 'law', 'code'], says: 'too many arguments' },
  {
    args: ['lab', 'run', '--out', 'o', '--domain', 'a=b:c', '--domain', 'a=d:e'],
    says: "The domain 'a' is given twice.",
  },
])('$args: $says', async ({ args, says }) => {
  const terminal = recordedTerminal()
  expect(await runCommand(args, terminal)).toBe(2)
  expect(terminal.errors()).toContain(says)
  expect(terminal.errors()).toContain('Add --help')
})
