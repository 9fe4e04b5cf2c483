import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createProgram, runCommand } from '../../../gpu-node/cli/program.ts'
import { createSession } from '../../../gpu-node/cli/api/session.ts'
import { recordedTerminal } from '../../support/doubles/recorded-terminal.ts'

/** A line of every command that asks the gateway; one at least for every answer that it reads. */
const LINES = [
  'status',
  'nodes',
  'drain n1',
  'undrain n1',
  'generate x',
  'generate x --model m',
  'generate x --model m --json',
  'domains',
  'domains import law text.txt',
  'domains delete law --yes',
  'domains delete law --key k --yes',
  'domains proposed',
  'domains accept p1',
  'domains merge p1 law',
  'domains discard p1 --yes',
  'domains review law',
  'domains mask law',
  'domains rebuild law --yes',
  'domains set law --shared',
  'samples delete --key k --yes',
  'triggers',
  'alerts',
  'nodes probes',
  'top --once',
  'dashboard',
  'audit list',
  'audit verify',
  'update law',
  'update law --detach',
  'updates',
  'updates u1',
  'updates force u1 --reason because-it-is-so',
  'cancel u1',
  'holdout set text.txt',
  'holdout show',
  'holdout delete --yes',
  'policy show',
  'policy set confirm=2',
  'policy reset',
  'masks',
  'masks pin m1',
  'masks unpin m1',
  'masks export m1 --out m1.safetensors',
  'rollback',
  'canary',
  'canary m1 --share 10%',
  'canary --end',
  'shadow',
  'shadow m1 --share 10%',
  'shadow --end',
  'drift',
  'evaluate text.txt',
  'keys list',
  'keys create x',
  'keys sampling k never',
  'keys limit k --concurrent 1',
  'keys rotate k',
  'keys revoke k --yes',
  'tenants list',
  'tenants set a --concurrent 1',
  'tenants cache a',
  'tenants cache a --clear',
]
/** These ask nobody, or with a model's help: `masks import` is in `mask-files.test.ts`. */
const ASK_NOBODY = [
  'methods',
  'lab',
  'advise',
  'nodes secret',
  'masks inspect',
  'masks build',
  'masks import',
]

interface Answer {
  status: number
  body: string
  headers?: Record<string, string>
}
let answer: Answer
let server: Server
let env: Record<string, string>
let dir: string

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'copal-other-service-'))
  writeFileSync(join(dir, 'text.txt'), 'Some text.')
  server = createServer((_, response) => {
    response.writeHead(answer.status, { 'content-type': 'application/json', ...answer.headers })
    response.end(answer.body)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  env = { COPAL_BASE_URL: `http://127.0.0.1:${port}`, COPAL_API_KEY: 'k', COPAL_ADMIN_KEY: 'a' }
})
afterAll(() => {
  server.close()
  rmSync(dir, { recursive: true })
})

async function copal(line: string, options: { piped?: boolean } = {}) {
  const terminal = recordedTerminal({ env, cwd: dir, ...options })
  const code = await runCommand(line.split(' '), terminal)
  return { code, output: terminal.output(), errors: terminal.errors() }
}

test.each<{ what: string; answer: Answer; says: string }>([
  { what: 'other JSON', answer: { status: 200, body: '{"hello":1}' }, says: 'it sent \'{"hello":1}\', ' },
  { what: 'a list', answer: { status: 200, body: '[]' }, says: "it sent '[]', " },
  { what: 'null', answer: { status: 200, body: 'null' }, says: "it sent 'null', " },
  { what: 'text as JSON', answer: { status: 200, body: '"ok"' }, says: 'it sent \'"ok"\', ' },
  {
    what: 'an empty envelope',
    answer: { status: 200, body: '{"data":null}' },
    says: 'it sent \'{"data":null}\'',
  },
  { what: 'a page', answer: { status: 200, body: '<html>\n<p>' }, says: "it sent '<html>', " },
  { what: 'nothing', answer: { status: 200, body: '' }, says: 'it sent nothing. ' },
  {
    what: 'half of a response',
    answer: { status: 200, body: '{"data":[{"id"' },
    says: 'it sent \'{"data":[{"id"\', ',
  },
  {
    what: 'an error of its own',
    answer: { status: 404, body: '{"detail":"Not Found"}' },
    says: 'returned status 404: {"detail":"Not Found"}. ',
  },
  {
    what: 'the page of a proxy',
    answer: { status: 502, body: '<html>\n<p>' },
    says: 'returned status 502: <html>. ',
  },
  {
    what: 'a redirect to a login page',
    answer: { status: 302, body: '', headers: { location: 'https://login.example.com/' } },
    says: 'returned status 302: it redirects to https://login.example.com/. ',
  },
])(
  'a server that returns $what gives an error of one line with every command',
  async ({ answer: given, says }) => {
    answer = given
    const told: string[] = []
    for (const line of LINES) {
      const { code, output, errors } = await copal(line)
      const message = line.includes('--json')
        ? (JSON.parse(errors) as { error: { message: string } }).error.message
        : errors.replace(/^copal: /, '').trimEnd()
      const isClear =
        !message.includes('\n') &&
        message.includes(env['COPAL_BASE_URL'] ?? '') &&
        message.includes(says) &&
        /[Cc]heck COPAL_BASE_URL/.test(message)
      if (code !== 1 || output !== '' || !isClear) told.push(`${line}: ${code}, ${output}, ${errors}`)
    }
    expect(told).toEqual([])
  },
)

test('a stream of another kind gives an error of one line', async () => {
  const headers = { 'content-type': 'text/event-stream' }
  answer = { status: 200, headers, body: 'data: {"choices":[{"text":"x"}]}\n\ndata: [DONE]\n\n' }
  const { code, output, errors } = await copal('generate x --model m')
  expect([code, output]).toEqual([1, ''])
  expect(errors).toMatch(
    /^copal: The server at \S+ is not a copal gateway, or it is one of another version: it sent '\{"choices".*', where 'choices\[0\]\.delta' is missing\. Check COPAL_BASE_URL\.\n$/,
  )
})

test('output of a model cannot control the terminal, and a pipe gets it as it is', async () => {
  const content = '\u001B]52;c;ZXZpbA==\u0007\tof\ntwo lines'
  const chunk = JSON.stringify({ choices: [{ delta: { content } }] })
  const headers = { 'content-type': 'text/event-stream' }
  answer = { status: 200, headers, body: `data: ${chunk}\n\ndata: [DONE]\n\n` }
  expect((await copal('generate x --model m')).output).toBe('?]52;c;ZXZpbA==?\tof\ntwo lines\n')
  expect((await copal('generate x --model m', { piped: true })).output).toBe(`${content}\n`)
})

test('an error of another server cannot control the terminal', async () => {
  answer = { status: 502, body: '\u001B]52;c;ZXZpbA==\u0007down' }
  expect((await copal('status')).errors).toContain('returned status 502: ?]52;c;ZXZpbA==?down. ')
})

test('these lists have all commands', async () => {
  const named: string[] = []
  for (const command of (await createProgram(createSession(recordedTerminal()))).commands) {
    named.push(command.name(), ...command.commands.map((below) => `${command.name()} ${below.name()}`))
  }
  const begins = (lines: string[], name: string) =>
    lines.some((line) => line === name || line.startsWith(`${name} `))
  const isAsked = (name: string) => begins(LINES, name)
  const isNot = (name: string) => ASK_NOBODY.some((each) => begins([name], each))
  expect(named.filter((name) => !isAsked(name) && !isNot(name))).toEqual([])
})

describe('a gateway of another version', () => {
  test('gives an error that names the missing field', async () => {
    answer = { status: 200, body: '{"version":"0.0.1","models":[],"nodes":[]}' }
    expect((await copal('status')).errors).toMatch(
      /^copal: The server at http:.*\/admin\/status is not a copal gateway, or it is one of another version: it sent '.*', where 'updates_running' is missing\. Check COPAL_BASE_URL\.\n$/,
    )
  })

  test('may send unknown fields, which are part of the JSON output', async () => {
    answer = { status: 200, body: '{"id":"k","revoked":true,"more":1}' }
    expect(JSON.parse((await copal('keys revoke k --yes --json')).output)).toEqual({
      id: 'k',
      revoked: true,
      more: 1,
    })
  })
})
