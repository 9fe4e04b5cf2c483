import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createServerHttp } from 'node:http'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import manifest from '../../../package.json' with { type: 'json' }
import { AppError, errorBody } from '@copal/shared/errors.ts'
import { METHOD_NAMES, RULES } from '../../../gpu-node/src/pruning/methods/method-registry.ts'
import { createSession } from '../../../gpu-node/cli/api/session.ts'
import { createProgram, runCommand } from '../../../gpu-node/cli/program.ts'
import { recordedTerminal } from '../../support/doubles/recorded-terminal.ts'

/** No program listens on port 2, and the system never assigns it to another test. */
const deadEnd: Record<string, string> = {
  COPAL_BASE_URL: 'http://127.0.0.1:2/v1',
  COPAL_API_KEY: 'k',
  COPAL_ADMIN_KEY: 'a',
}
let dir: string

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'copal-cli-'))
})
afterAll(() => rmSync(dir, { recursive: true, force: true }))

describe('a wrong command line', () => {
  test('a mistyped command exits with 2 and suggests the right one', async () => {
    const terminal = recordedTerminal()
    expect(await runCommand(['stauts'], terminal)).toBe(2)
    expect(terminal.errors()).toContain("unknown command 'stauts'")
    expect(terminal.errors()).toContain('Did you mean status?')
  })

  test('a mistyped subcommand lists the known ones', async () => {
    const terminal = recordedTerminal()
    expect(await runCommand(['domains', 'improt'], terminal)).toBe(2)
    expect(terminal.errors()).toContain("unknown command 'domains improt'")
    expect(terminal.errors()).toContain('domains import')
  })

  test.each([
    { args: ['update'], says: "missing required argument 'domain'" },
    { args: ['update', 'legal', '--samples', 'many'], says: 'A whole number is expected.' },
    {
      args: ['update', 'legal', '--pattern', '1.0'],
      says: 'the fraction of pruned weights must be above 0 and below 1',
    },
    { args: ['update', 'legal', '--pattern', '4:2'], says: 'n must be less than m' },
    { args: ['rollback', 'x'], says: "A mask is a number like 3 or m3, or 'dense'." },
    { args: ['canary', 'm5'], says: "a mask needs '--share', like '--share 10%'" },
    { args: ['canary', '--share', '10%'], says: "'--share' needs a mask" },
    { args: ['canary', 'm5', '--share', '0%'], says: 'A share like 10% or 0.1 is expected, above 0' },
    { args: ['canary', 'm5', '--share', '91%'], says: 'at most 90%' },
    { args: ['shadow', 'm5', '--share', '101%'], says: 'at most 100%' },
    { args: ['canary', 'm5', '--end'], says: "'--end' takes neither a mask nor a share" },
    { args: ['evaluate', 'a.txt', '--dense', '--mask', 'm1'], says: 'cannot be used with' },
    {
      args: ['keys', 'rotate', 'key_1', '--grace', 'soon'],
      says: 'A time like 90s, 30m, 24h or 7d is expected.',
    },
    { args: ['keys', 'limit', 'key_1'], says: 'name a limit to change, like --requests-per-minute 60' },
    { args: ['tenants', 'set', 'a', '--concurrent', '0'], says: "at least 1, or 'none', is expected" },
    {
      args: ['tenants', 'set', 'A B', '--delete-texts'],
      says: "argument '<name>' does not take 'A B'. Expected a tenant name of lower-case letters",
    },
    { args: ['keys', 'creat', 'x'], says: 'Did you mean create?' },
    {
      args: ['nodes', 'sercet', 'node-1'],
      says: "unknown command 'nodes sercet'\n(Did you mean nodes secret?)",
    },
    {
      args: ['masks', 'merge'],
      says: 'Known commands: masks export, masks import, masks inspect, masks build',
    },
    { args: ['masks', 'list'], says: "Did you mean 'npx copal masks'? It lists them." },
    { args: ['domains', 'update'], says: "Did you mean 'npx copal update'?" },
    { args: ['nodes', 'drain', 'node-1'], says: "(Did you mean 'npx copal drain'?)" },
    { args: ['start'], says: "unknown command 'start'\n(Did you mean 'npm start'?)" },
    { args: ['node'], says: "(Did you mean 'npx copal nodes' or 'npm run node'?)" },
    { args: ['login'], says: "Did you mean 'npx copal dashboard'?" },
    { args: ['status', '--jsno'], says: 'Did you mean --json?' },
  ])('$args exits with 2 and says what is wrong', async ({ args, says }) => {
    const terminal = recordedTerminal()
    expect(await runCommand(args, terminal)).toBe(2)
    expect(terminal.errors()).toContain(says)
    expect(terminal.output()).toBe('')
  })
})

type Program = Awaited<ReturnType<typeof createProgram>>

/** Returns the names of a command and of all below it: `[]`, `['domains']`, `['domains', 'import']`. */
function namesOf(command: Program, names: string[] = []): string[][] {
  return [names, ...command.commands.flatMap((below) => namesOf(below, [...names, below.name()]))]
}

describe('--help', () => {
  test('of every command exits with 0, shows an example and fits 80 columns', async () => {
    const lines = namesOf(await createProgram(createSession(recordedTerminal())))
    expect(lines.length).toBeGreaterThan(60)
    for (const line of lines) {
      const terminal = recordedTerminal()
      expect(await runCommand([...line, '--help'], terminal)).toBe(0)
      const [ours = '', examples] = terminal.output().split(/^Examples?:$/m)
      expect(examples).toContain(['\n  npx copal', ...line].join(' '))
      expect(ours.split('\n').filter((each) => each.length > 80)).toEqual([])
    }
  })

  test("'help' of a subcommand shows the help of the subcommand", async () => {
    const [asked, shown] = [recordedTerminal(), recordedTerminal()]
    expect(await runCommand(['help', 'lab', 'run'], asked)).toBe(0)
    expect(await runCommand(['lab', 'run', '--help'], shown)).toBe(0)
    expect(asked.output()).toBe(shown.output())
  })

  test.each([
    { args: ['help', 'stauts'], says: 'Did you mean status?' },
    { args: ['help', 'lab', 'rnu'], says: 'Did you mean run?' },
    { args: ['help', 'nodes', 'sercet'], says: 'Did you mean nodes secret?' },
  ])('$args exits with 2 and suggests the right name', async ({ args, says }) => {
    const terminal = recordedTerminal()
    expect(await runCommand(args, terminal)).toBe(2)
    expect(terminal.errors()).toContain(says)
  })
})

test('--version prints the version of the package', async () => {
  const terminal = recordedTerminal()
  expect(await runCommand(['--version'], terminal)).toBe(0)
  expect(terminal.output()).toBe(`${manifest.version}\n`)
})

describe('pruning methods', () => {
  test('are listed, each rule on a line that fits', async () => {
    const terminal = recordedTerminal()
    expect(await runCommand(['methods'], terminal)).toBe(0)
    const lines = terminal.output().split('\n')
    for (const { name } of RULES) expect(lines.some((line) => line.startsWith(`${name} `))).toBe(true)
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80)
  })

  test('are listed with all suffixes as JSON', async () => {
    const terminal = recordedTerminal()
    expect(await runCommand(['methods', '--json'], terminal)).toBe(0)
    const listed = JSON.parse(terminal.output()) as { methods: string[]; rules: { name: string }[] }
    expect(listed.methods).toEqual(METHOD_NAMES)
    expect(listed.rules.map(({ name }) => name)).toEqual(RULES.map(({ name }) => name))
  })

  test('are checked by the gateway, whose message is shown', async () => {
    const message =
      "No node of 'tiny' offers the pruning method 'wnada'. Did you mean 'wanda'? Offered: wanda."
    const error = new AppError('invalid_request', message, { param: 'selection.method' })
    let asked = ''
    const gateway = createServerHttp((request, response) => {
      request.on('data', (chunk) => (asked += String(chunk)))
      request.on('end', () => {
        response.writeHead(error.status, { 'content-type': 'application/json' })
        response.end(JSON.stringify(errorBody(error)))
      })
    }).listen(0, '127.0.0.1')
    await once(gateway, 'listening')
    const { port } = gateway.address() as AddressInfo
    const env = { ...deadEnd, COPAL_BASE_URL: `http://127.0.0.1:${port}/v1` }
    const terminal = recordedTerminal({ env })
    const leaveOut = ['--leave-out', 'model.layers.0.*']
    expect(await runCommand(['update', 'legal', '--method', 'wnada', ...leaveOut], terminal)).toBe(1)
    gateway.close()
    expect(JSON.parse(asked)).toEqual({
      domains: ['legal'],
      selection: { method: 'wnada', patterns: { 'model.layers.0.*': 'dense' } },
    })
    expect(terminal.errors()).toBe(`copal: ${message}\n`)
  })
})

describe('a key with characters that a header cannot contain', () => {
  const failed = async (env: Record<string, string>, args: string[]) => {
    const terminal = recordedTerminal({ env: { ...deadEnd, ...env } })
    expect(await runCommand(args, terminal)).toBe(1)
    return terminal.errors()
  }

  test('is an error only when it is needed', async () => {
    const env = { COPAL_ADMIN_KEY: 'sk-copal-ключ' }
    expect(await failed(env, ['status'])).toBe(
      'copal: The admin key has a character that no key contains. Copy it to COPAL_ADMIN_KEY again.\n',
    )
    expect(await failed(env, ['generate', 'x'])).toMatch(/^copal: No gateway answers at /)
  })

  test('may end with a line end', async () => {
    expect(await failed({ COPAL_ADMIN_KEY: 'sk-copal-key\r\n' }, ['status'])).toMatch(
      /^copal: No gateway answers at /,
    )
  })
})

describe('a gateway that is away', () => {
  test('is an error of one line that says how to start it', async () => {
    const terminal = recordedTerminal({ env: deadEnd })
    expect(await runCommand(['status'], terminal)).toBe(1)
    expect(terminal.errors()).toMatch(
      /^copal: No gateway answers at http:\/\/127\.0\.0\.1:\d+\. Is it running\? .*npm start\n$/,
    )
  })

  test('on another machine is an error that names its deployment', async () => {
    const env = { ...deadEnd, COPAL_BASE_URL: 'https://copal.invalid/v1' }
    const terminal = recordedTerminal({ env })
    expect(await runCommand(['status'], terminal)).toBe(1)
    expect(terminal.errors()).toBe(
      'copal: No gateway answers at https://copal.invalid. Check COPAL_BASE_URL and the deployment: ' +
        'curl https://copal.invalid/health\n',
    )
  })

  test.each(['foo', 'localhost:8787', 'ftp://copal.example.com'])(
    'is not called at %s, which is not a web address',
    async (address) => {
      const terminal = recordedTerminal({ env: { ...deadEnd, COPAL_BASE_URL: address } })
      expect(await runCommand(['status'], terminal)).toBe(1)
      expect(terminal.errors()).toBe(
        `copal: COPAL_BASE_URL is '${address}': an address like https://copal.example.com is expected.\n`,
      )
    },
  )

  test('is a JSON object with --json', async () => {
    const terminal = recordedTerminal({ env: deadEnd })
    expect(await runCommand(['drift', '--json'], terminal)).toBe(1)
    expect(JSON.parse(terminal.errors())).toMatchObject({ error: { code: 'gateway_unreachable' } })
    expect(terminal.output()).toBe('')
  })

  test('missing credentials are an error that says what to do first', async () => {
    const terminal = recordedTerminal({ env: { COPAL_HOME: dir } })
    expect(await runCommand(['status'], terminal)).toBe(1)
    expect(terminal.errors()).toContain(join(dir, 'credentials.json'))
    expect(terminal.errors()).toContain('npm start')
  })

  test('damaged credentials are an error that names the file', async () => {
    const home = mkdtempSync(join(dir, 'home-'))
    writeFileSync(join(home, 'credentials.json'), '{"baseUrl":')
    const terminal = recordedTerminal({ env: { COPAL_HOME: home } })
    expect(await runCommand(['status'], terminal)).toBe(1)
    expect(terminal.errors()).toContain('is not valid JSON')
  })

  test('keys of one gateway are not sent to another', async () => {
    const home = mkdtempSync(join(dir, 'home-'))
    writeFileSync(
      join(home, 'credentials.json'),
      JSON.stringify({ baseUrl: 'http://127.0.0.1:1', apiKey: 'k', adminKey: 'a' }),
    )
    const terminal = recordedTerminal({
      env: { COPAL_HOME: home, COPAL_BASE_URL: deadEnd['COPAL_BASE_URL'] ?? '' },
    })
    expect(await runCommand(['status'], terminal)).toBe(1)
    expect(terminal.errors()).toBe(
      'copal: No admin key is known for the gateway at http://127.0.0.1:2: set COPAL_ADMIN_KEY.\n',
    )
  })
})

describe('a text file', () => {
  test('that is not UTF-8 is an error with the offset of the first wrong byte', async () => {
    writeFileSync(
      join(dir, 'latin1.txt'),
      Buffer.concat([Buffer.from('Straße und Caf'), Buffer.from([0xe9]), Buffer.from(' noir')]),
    )
    const terminal = recordedTerminal({ env: deadEnd, cwd: dir })
    expect(await runCommand(['evaluate', 'latin1.txt'], terminal)).toBe(1)
    expect(terminal.errors()).toContain('latin1.txt is not UTF-8: byte 0xe9 at offset 15')
  })

  test('that is missing is an error that names it', async () => {
    const terminal = recordedTerminal({ env: deadEnd, cwd: dir })
    expect(await runCommand(['domains', 'import', 'legal', 'missing.txt'], terminal)).toBe(1)
    expect(terminal.errors()).toBe('copal: missing.txt does not exist.\n')
  })

  test('without text is an error', async () => {
    writeFileSync(join(dir, 'blank.txt'), ' \n\n')
    const terminal = recordedTerminal({ env: deadEnd, cwd: dir })
    expect(await runCommand(['evaluate', 'blank.txt', '--json'], terminal)).toBe(1)
    expect(JSON.parse(terminal.errors())).toMatchObject({ error: { code: 'file_empty' } })
  })
})
