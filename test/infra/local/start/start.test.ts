/**
 * `npm start` with everything real but the model, which is a tiny one: gateway in workerd, node with
 * ONNX Runtime, the first update. The tests share one service and run in order.
 */
import { execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { StatusReport, UpdateEntry } from '@copal/shared/wire/admin.ts'
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { runCommand } from '../../../../gpu-node/cli/program.ts'
import { isAlive } from '../../../../gpu-node/src/platform/process-identity.ts'
import { freePort } from '../../../../infra/local/processes/ports.ts'
import { ROOT } from '../../../../infra/local/toolchain/toolchain.mjs'
import { recordedTerminal } from '../../../support/doubles/recorded-terminal.ts'
import { createTinyLlama } from '../../../support/models/tiny-llama.ts'
import {
  commandLine,
  descendants,
  startService,
  until,
  type Service,
} from '../../../support/processes/service.ts'

// Everything starts processes, and the machine may be busy with other tests.
vi.setConfig({ testTimeout: 900_000, hookTimeout: 900_000 })

const run = promisify(execFile)
const dir = mkdtempSync(join(tmpdir(), 'copal-start-'))
const home = join(dir, 'home')
const env = { COPAL_MODEL: join(dir, 'tiny'), COPAL_CACHE: join(dir, 'cache'), COPAL_THREADS: '1' }
/** Where Wrangler would keep traces of requests, as it did under earlier versions. */
const traces = join(home, 'state', 'v3', 'observability')
let service: Service

beforeAll(async () => {
  await createTinyLlama(env.COPAL_MODEL, { contextLength: 2048, logitScale: 0.3 })
  service = await startService({ home, env })
})
afterAll(async () => {
  await service.stop()
  rmSync(dir, { recursive: true, force: true })
})

/** One `copal` command against the service in a process, as a user runs it. */
async function copal(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [join(ROOT, 'infra/local/copal.mjs'), ...args], {
    env: { ...process.env, COPAL_HOME: home },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (data: Buffer) => (stdout += data.toString()))
  child.stderr.on('data', (data: Buffer) => (stderr += data.toString()))
  const [code] = (await once(child, 'close')) as [number]
  return { code, stdout, stderr }
}

/** The JSON of one command, which runs in this process, because a process takes longer to start than the command runs. */
async function copalJson<T>(...args: string[]): Promise<T> {
  const terminal = recordedTerminal({ env: { COPAL_HOME: home }, cwd: ROOT })
  const code = await runCommand([...args, '--json'], terminal)
  if (code !== 0) throw new Error(terminal.errors())
  return JSON.parse(terminal.output()) as T
}

/** `npm start` that is expected to refuse. */
async function refusedStart(
  variables: Record<string, string>,
): Promise<{ code: number | null; stderr: string }> {
  const child = spawn(process.execPath, ['infra/local/bootstrap.mjs', 'start'], {
    cwd: ROOT,
    env: { ...process.env, ...env, ...variables },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let stderr = ''
  child.stderr.on('data', (data: Buffer) => (stderr += data.toString()))
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, stderr }
}

describe('the first start', () => {
  test('prints commands that work as pasted', async () => {
    await until('the banner', () => service.output().includes('npx copal status') || undefined)
    const [curl] = /^curl .*$/m.exec(service.output()) ?? []
    const [snippet] = /^node --input-type=module <<'END'[^]*?^END$/m.exec(service.output()) ?? []
    const answer = JSON.parse((await run('bash', ['-c', curl ?? ''])).stdout) as {
      object: string
      usage: object
    }
    expect(answer).toMatchObject({
      object: 'chat.completion',
      usage: { completion_tokens: expect.any(Number) },
    })
    // The tiny model babbles, so that any text at all is the answer; a failure would reject.
    const { stderr } = await run('bash', ['-c', snippet ?? ''], { cwd: ROOT })
    expect(stderr).toBe('')
  })

  test('prints a link that opens the dashboard signed in, once', async () => {
    const [, link = ''] = await until(
      'the link',
      () => /^ +Signed in +(\S+)$/m.exec(service.output()) ?? undefined,
    )
    const { origin, pathname, hash } = new URL(link)
    expect([origin, pathname]).toEqual([new URL(service.baseUrl).origin, '/dashboard'])
    expect(await (await fetch(link)).text()).toContain('<script')
    const signIn = async (code: string) =>
      fetch(new URL('/dashboard/session', service.baseUrl), {
        method: 'POST',
        body: JSON.stringify({ code }),
      })
    const [code, other] = [hash, (await copal('dashboard')).stdout].map(
      (text) => text.trim().split('#code=')[1] ?? '',
    )
    const session = await signIn(code ?? '')
    expect([session.status, (await signIn(code ?? '')).status]).toEqual([201, 401])
    expect((await signIn(other ?? '')).status).toBe(201)
    const cookie = session.headers.get('set-cookie')?.split(';')[0] ?? ''
    const overview = await fetch(new URL('/admin/overview', service.baseUrl), { headers: { cookie } })
    expect(await overview.json()).toMatchObject({ model: { id: 'tiny' }, nodes: [{ model: 'tiny' }] })
  })

  test('lets only the owner read its secrets', () => {
    for (const name of ['credentials.json', 'secrets.json', 'gateway.env']) {
      expect(statSync(join(home, name)).mode & 0o777).toBe(0o600)
    }
    expect(JSON.parse(readFileSync(join(home, 'credentials.json'), 'utf8'))).toEqual({
      baseUrl: service.baseUrl,
      apiKey: service.apiKey,
      adminKey: service.adminKey,
    })
  })

  test("offers no door of Wrangler's to the database, and keeps no traces of requests", async () => {
    const origin = new URL(service.baseUrl).origin
    for (const path of ['/cdn-cgi/local/explorer/', '/cdn-cgi/explorer/api/d1/database']) {
      const response = await fetch(`${origin}${path}`)
      expect(response.status).toBe(404)
      expect(await response.json()).toMatchObject({ error: { code: 'not_found' } })
    }
    expect(existsSync(traces)).toBe(false)
  })

  test('ends with the first mask live, and prints its perplexity', async () => {
    await until('the first mask', () => /m1 is live: .*/.exec(service.output())?.[0])
    expect(service.output()).toMatch(/Perplexity on held-out text: [\d.e+]+ dense, [\d.e+]+ pruned\./)
    const { models } = await copalJson<StatusReport>('status')
    expect(models).toMatchObject([{ active_version: 1, sparsity: expect.closeTo(0.5, 2) }])
  })

  test('a second service with the same home fails and names the running process', async () => {
    const { code, stderr } = await refusedStart({ COPAL_HOME: home, COPAL_PORT: String(await freePort()) })
    expect(code).toBe(1)
    expect(stderr).toMatch(/^copal: copal is already running with this home .*pid \d+.*\n$/)
  })

  test('a second service on the same port fails and names the variable to change', async () => {
    const port = new URL(service.baseUrl).port
    const { code, stderr } = await refusedStart({ COPAL_HOME: join(dir, 'other'), COPAL_PORT: port })
    expect(code).toBe(1)
    expect(stderr).toMatch(
      new RegExp(`^copal: Port ${port} is in use.* set COPAL_PORT to another port\\.\\n$`),
    )
  })

  test('a missing model fails with one line and leaves no process', async () => {
    const { code, stderr } = await refusedStart({
      COPAL_HOME: join(dir, 'missing'),
      COPAL_PORT: String(await freePort()),
      COPAL_NODE_PORT: String(await freePort()),
      COPAL_MODEL: join(dir, 'no-such-model'),
    })
    expect(code).toBe(1)
    expect(stderr).toMatch(/^copal: .*no-such-model.*\n$/)
  })
})

describe('copal', () => {
  test.each([
    ['status', 'tiny'],
    ['keys list', 'inference'],
  ])('%s prints its whole output into a pipe', async (command, word) => {
    const { code, stdout } = await copal(...command.split(' '))
    expect(code).toBe(0)
    expect(stdout).toContain(word)
  })

  test.each([
    ['domains', 'general'],
    ['updates', 'promoted'],
    ['masks', 'continual-wanda+swaps'],
    ['drift', 'general'],
  ])('%s prints what there is', async (command, word) => {
    const terminal = recordedTerminal({ env: { COPAL_HOME: home }, cwd: ROOT })
    expect(await runCommand([command], terminal)).toBe(0)
    expect(terminal.output()).toContain(word)
  })

  test('imports a file into a domain, and deletes the domain', async () => {
    const file = join(dir, 'contracts.txt')
    writeFileSync(
      file,
      Array.from({ length: 60 }, (_, n) => `Clause ${n}. The parties agree on point ${n}.`).join('\n\n'),
    )
    expect(await copalJson('domains', 'import', 'legal', file)).toMatchObject({ domain: 'legal', texts: 1 })
    const legal = (entries: DomainEntry[]) => entries.find(({ name }) => name === 'legal')
    expect(legal(await copalJson('domains'))).toMatchObject({ seen: expect.any(Number) })
    await copalJson('domains', 'delete', 'legal', '--yes')
    expect(legal(await copalJson('domains'))).toBeUndefined()
  })

  test('rolls back to dense and forth again', async () => {
    expect(await copalJson('rollback', 'dense')).toEqual({ active_version: 0 })
    expect(await copalJson('rollback', 'm1')).toEqual({ active_version: 1 })
  })

  test('evaluates a text file under dense and under the mask', async () => {
    const file = join(ROOT, 'infra/local/start/texts/general.txt')
    const options = ['--window', '256', '--max-windows', '2']
    const dense = await copalJson<{ perplexity: number }>('evaluate', file, '--dense', ...options)
    const masked = await copalJson<{ perplexity: number }>('evaluate', file, '--mask', 'm1', ...options)
    expect(dense).toMatchObject({ mask_version: 0, windows: 2, tokens: 510 })
    expect(masked).toMatchObject({ mask_version: 1, windows: 2, tokens: 510 })
    expect(masked.perplexity).not.toBe(dense.perplexity)
  })

  test('generates as JSON, and streams the same text', async () => {
    const args = ['generate', 'Hello', '--max-tokens', '8', '--temperature', '0']
    const whole = await copalJson<{ choices: { message: { content: string } }[] }>(...args)
    expect((await copal(...args)).stdout).toBe(`${whole.choices[0]?.message.content}\n`)
  })

  test('creates a key that the API accepts, lists it and revokes it', async () => {
    const { id, key } = await copalJson<{ id: string; key: string }>('keys', 'create', 'notebook')
    const response = await fetch(`${service.baseUrl}/v1/models`, {
      headers: { authorization: `Bearer ${key}` },
    })
    expect(response.status).toBe(200)
    const names = async () => (await copalJson<{ name: string }[]>('keys', 'list')).map(({ name }) => name)
    expect(await names()).toContain('notebook')
    await copalJson('keys', 'revoke', id, '--yes')
    expect(await names()).toEqual(['local'])
  })

  test('an update of an unknown domain fails with the reason', async () => {
    const { code, stderr } = await copal('update', 'nobody', '--json')
    expect(code).toBe(1)
    expect(JSON.parse(stderr.trim().split('\n').at(-1) ?? '')).toMatchObject({
      error: { message: expect.stringContaining('nobody') },
    })
  })
})

describe('crashes and stops', () => {
  test('a killed node is started again and serves the same mask', async () => {
    const [node] = service.pids('gpu-node/src/main.ts')
    process.kill(node ?? 0, 'SIGKILL')
    await until('another process', () =>
      service.pids('gpu-node/src/main.ts').some((pid) => pid !== node) ? true : undefined,
    )
    await until(
      'the line about it',
      () => /The node ended \(SIGKILL\); starting it again/.exec(service.output())?.[0],
    )
    await until('the node', async () => {
      const { nodes } = await service.admin<StatusReport>('GET', '/admin/status')
      return nodes.find((entry) => entry.alive && entry.active_version === 1 && entry.seen_ms_ago < 2000)
    })
    expect(service.pids('gpu-node/src/main.ts')).toEqual([expect.any(Number)])
  })

  test('a killed workerd is started again with the same keys and masks', async () => {
    const [workerd] = service.pids('workerd serve')
    process.kill(workerd ?? 0, 'SIGKILL')
    await until('another one', () => service.pids('workerd serve').find((pid) => pid !== workerd))
    const { data } = await until('the gateway', () =>
      service.admin<{ data: UpdateEntry[] }>('GET', '/admin/updates'),
    )
    expect(data).toMatchObject([{ state: 'promoted' }])
  })

  test('SIGTERM ends every process', async () => {
    const pids = service.pids('')
    expect(pids.map(commandLine).filter((line) => /workerd|main\.ts/.test(line)).length).toBeGreaterThan(1)
    await service.stop()
    await until('the processes to end', () => (pids.some(isAlive) ? undefined : true))
  })

  test('a later start keeps keys and masks, takes back what a killed demo left, and kill -9 leaves no process', async () => {
    const before = service
    const gateway = createHash('sha256').update(before.adminKey).digest('hex').slice(0, 16)
    const changes = join(home, 'demo-policy.json')
    const set = { triggers: { enabled: false } }
    const change = { id: '1', gateway, model: 'tiny', pid: 999_999_999, former: {}, set }
    writeFileSync(changes, JSON.stringify([change]))
    mkdirSync(join(traces, 'miniflare-wobs-trace-store'), { recursive: true })
    service = await startService({ home, env })
    expect(existsSync(traces)).toBe(false)
    expect(service).toMatchObject({ apiKey: before.apiKey, adminKey: before.adminKey })
    expect(await copalJson<StatusReport>('status')).toMatchObject({ models: [{ active_version: 1 }] })
    await until(
      'the former policy',
      () => service.output().includes('The former one is set again.') || undefined,
    )
    expect(existsSync(changes)).toBe(false)
    const pids = service.pids('')
    const [supervisor] = service.pids('infra/local/start/start.ts')
    process.kill(supervisor ?? 0, 'SIGKILL')
    await until('the processes to end', () => (pids.some(isAlive) ? undefined : true))
    expect(descendants(supervisor)).toEqual([])
  })
})
