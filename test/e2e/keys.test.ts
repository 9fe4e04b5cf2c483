/** `copal keys` against the real gateway: keys grant what the command says, for as long as it says. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { ErrorBody } from '@copal/shared/errors.ts'
import type { KeyEntry } from '@copal/shared/wire/admin-keys.ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runCommand, type ExitCode } from '../../gpu-node/cli/program.ts'
import { startBuiltGateway, type BuiltGateway } from '../../gpu-node/bench/gateways/built-gateway.ts'
import { recordedTerminal } from '../support/doubles/recorded-terminal.ts'

/** The gateway's `COPAL_KEY_TRUST_MS`. */
const KEY_TRUST_MS = 300
/** The grace periods of a rotation after which both keys are tried, and of one whose end is awaited. */
const LONG_GRACE_S = 600
const SHORT_GRACE_S = 2

let dir: string
let gateway: BuiltGateway

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'copal-keys-'))
  const variables = { COPAL_KEY_TRUST_MS: String(KEY_TRUST_MS) }
  gateway = await startBuiltGateway({ root: resolve(import.meta.dirname, '../..'), dir, variables })
})
afterAll(async () => {
  await gateway?.stop()
  await rm(dir, { recursive: true, force: true })
})

test('a new key grants its scopes, and is listed with its limits but without the key itself', async () => {
  const key = await create('notebook', '--requests-per-minute', '60', '--expires-in', '2h')
  expect(await opens(key)).toBe(200)
  expect(await opens(key, '/metrics')).toBe(403)
  const { stdout } = await copal('keys', 'list', '--json')
  expect(stdout).not.toContain(key)
  expect(entryOf(stdout, 'notebook')).toMatchObject({
    prefix: key.slice(0, 15),
    tenant: 'default',
    scopes: ['inference'],
    limits: { requests_per_minute: 60, tokens_per_month: null },
  })
  const reader = await create('grafana', '--scopes', 'read-metrics')
  expect(await opens(reader)).toBe(403)
  expect(await opens(reader, '/metrics')).toBe(200)
})

test('the keys of a tenant are listed alone, and their limits can be changed', async () => {
  expect((await copal('keys', 'create', 'lawyers', '--tenant', 'acme')).code).not.toBe(0)
  await copal('tenants', 'set', 'acme')
  await create('lawyers', '--tenant', 'acme', '--domain', 'legal')
  const listed = async () =>
    JSON.parse((await copal('keys', 'list', '--tenant', 'acme', '--json')).stdout) as KeyEntry[]
  const [entry, ...more] = await listed()
  expect(entry).toMatchObject({ name: 'lawyers', tenant: 'acme', default_domain: 'legal' })
  expect(more).toEqual([])
  await copal('keys', 'limit', entry?.id ?? '', '--tokens-per-month', '5000')
  expect(await listed()).toMatchObject([{ limits: { requests_per_minute: null, tokens_per_month: 5000 } }])
})

test('after a rotation the old key is valid until the printed time, and the new key after it', async () => {
  const first = await create('rotated')
  const { id } = await found('rotated')
  const rotate = async (graceS: number) => {
    const askedMs = Date.now()
    const { stdout, stderr } = await copal('keys', 'rotate', id, '--grace', `${graceS}s`)
    const untilMs = Date.parse(/^The old key is valid until (\S+)\.\n$/.exec(stderr)?.[1] ?? '')
    expect(untilMs - askedMs).toBeGreaterThanOrEqual(graceS * 1000)
    expect(untilMs - Date.now()).toBeLessThanOrEqual(graceS * 1000)
    return { key: stdout.trim(), untilMs }
  }
  const { key: old } = await rotate(LONG_GRACE_S)
  expect([await opens(first), await opens(old)]).toEqual([200, 200])
  const { key, untilMs } = await rotate(SHORT_GRACE_S)
  await expect.poll(() => opens(old), { interval: 100 }).toBe(401)
  expect(Date.now()).toBeGreaterThanOrEqual(untilMs)
  expect(await refusal(old)).toMatch(/was replaced and became invalid at/)
  expect(await opens(key)).toBe(200)
  expect(await found('rotated')).toMatchObject({ id, prefix: key.slice(0, 15) })
})

test('without a grace period the old key ends at once', async () => {
  const old = await create('hasty')
  const { id } = await found('hasty')
  expect(await opens(old)).toBe(200)
  const { stdout, stderr } = await copal('keys', 'rotate', id, '--grace', '0s')
  expect(stderr).toBe('The old key is no longer valid.\n')
  await expect.poll(() => opens(old)).toBe(401)
  expect(await opens(stdout.trim())).toBe(200)
})

test('a revoked key grants nothing, is no longer listed, and cannot be revoked again', async () => {
  const key = await create('revoked')
  const { id } = await found('revoked')
  expect(await opens(key)).toBe(200)
  expect(await copal('keys', 'revoke', id, '--yes')).toEqual({
    code: 0,
    stdout: `Revoked ${id}.\n`,
    stderr: '',
  })
  await expect.poll(() => opens(key)).toBe(401)
  expect((await copal('keys', 'list', '--json')).stdout).not.toContain(id)
  for (const command of ['revoke', 'rotate']) {
    const again = await copal('keys', command, id, ...(command === 'revoke' ? ['--yes'] : []))
    expect(again.code).not.toBe(0)
    expect(again.stderr).toContain(id)
  }
})

async function copal(...args: string[]): Promise<{ code: ExitCode; stdout: string; stderr: string }> {
  const terminal = recordedTerminal({
    env: { COPAL_BASE_URL: gateway.url, COPAL_ADMIN_KEY: gateway.adminKey },
  })
  const code = await runCommand(args, terminal)
  return { code, stdout: terminal.output(), stderr: terminal.errors() }
}

/** Creates a key and returns it: the command prints nothing else. */
async function create(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await copal('keys', 'create', ...args)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(stdout).toMatch(/^sk-copal-\S+\n$/)
  return stdout.trim()
}

async function found(name: string): Promise<KeyEntry> {
  const entry = entryOf((await copal('keys', 'list', '--json')).stdout, name)
  if (!entry) throw new Error(`no key is called ${name}`)
  return entry
}

function entryOf(listed: string, name: string): KeyEntry | undefined {
  return (JSON.parse(listed) as KeyEntry[]).find((entry) => entry.name === name)
}

/** Returns the status of a request with a key. */
async function opens(key: string, path = '/v1/models'): Promise<number> {
  const response = await fetch(gateway.url + path, { headers: { authorization: `Bearer ${key}` } })
  await response.body?.cancel()
  return response.status
}

async function refusal(key: string): Promise<string> {
  const response = await fetch(`${gateway.url}/v1/models`, { headers: { authorization: `Bearer ${key}` } })
  return ((await response.json()) as ErrorBody).error.message
}
