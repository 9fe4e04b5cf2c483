import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { freePort } from '../../../infra/local/processes/ports.ts'
import { openHome } from '../../../infra/local/service/home.ts'
import { readSettings } from '../../../infra/local/service/service-settings.ts'
import type { StatusReport, UpdateEntry } from '@copal/shared/wire/admin.ts'
import type { PolicyOverrides, PolicyReport } from '@copal/shared/wire/admin-policy.ts'
import { copyMigratedState } from './migrated-state.ts'

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))

/** The product as a user starts it, on free ports and with a new home. It uses the user's model cache. */
export interface Service {
  home: string
  baseUrl: string
  apiKey: string
  adminKey: string
  nodePort: number
  /** Returns everything that `npm start` has printed. */
  output(): string
  /** Calls the gateway with the admin key. Throws on any status but 2xx. */
  admin<T>(method: string, path: string, body?: unknown): Promise<T>
  /** Replaces the changes to the policy of its model. Triggers stay off unless they are changed. */
  setPolicy(overrides: PolicyOverrides): Promise<PolicyReport>
  /** Returns the pids below the service whose command line contains `pattern`. */
  pids(pattern: string): number[]
  /** Fires the cron triggers, as the service does each minute. */
  fireCron(): void
  /** Ends the service as Ctrl-C does. Removes the home unless it was given or `keep` is set. */
  stop(options?: { keep?: boolean }): Promise<void>
}

/**
 * Tests start updates themselves, and an automatic one would come between. Finding domains would have the node describe some 300
 * texts of the pools and of the background in the first minutes: half of the time of its steps in the test of the main job.
 */
const BY_HAND = { triggers: { enabled: false }, discovery: { enabled: false } } satisfies PolicyOverrides

/**
 * Starts `npm start` and waits until it printed how to call it. It starts no updates and finds no domains by itself.
 *
 * @param options `migrated` gives a new home the migrated database, which saves the start the seconds of the migrations
 */
export async function startService(
  options: { home?: string; migrated?: boolean; env?: Record<string, string> } = {},
): Promise<Service> {
  const home = options.home ?? mkdtempSync(join(tmpdir(), 'copal-e2e-'))
  if (options.migrated) {
    mkdirSync(home, { recursive: true })
    await copyMigratedState(readSettings({ COPAL_HOME: home }), openHome(home))
  }
  const port = await freePort()
  const nodePort = await freePort()
  const child = spawn(process.execPath, ['infra/local/bootstrap.mjs', 'start'], {
    cwd: ROOT,
    env: {
      ...process.env,
      COPAL_HOME: home,
      COPAL_PORT: String(port),
      COPAL_NODE_PORT: String(nodePort),
      // Test files share the processors, and two threads of a step that is delayed wait for each other.
      COPAL_THREADS: '1',
      ...options.env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  child.stdout.on('data', (data: Buffer) => (output += data.toString()))
  child.stderr.on('data', (data: Buffer) => (output += data.toString()))
  const credentials = await untilReady(child, home, port, () => output)
  const admin = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, {
      method,
      headers: { authorization: `Bearer ${credentials.adminKey}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
    return JSON.parse(text) as T
  }
  const setPolicy = (overrides: PolicyOverrides) =>
    admin<PolicyReport>('PUT', '/admin/policy', { ...BY_HAND, ...overrides })
  const { overrides } = await admin<PolicyReport>('GET', '/admin/policy')
  await setPolicy(overrides)
  return {
    home,
    nodePort,
    setPolicy,
    ...credentials,
    output: () => output,
    admin,
    fireCron() {
      for (const pid of descendants(child.pid))
        if (commandLine(pid).includes('infra/local/start/start.ts')) process.kill(pid, 'SIGUSR2')
    },
    pids: (pattern) => descendants(child.pid).filter((pid) => commandLine(pid).includes(pattern)),
    async stop({ keep = false } = {}) {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGTERM')
        await once(child, 'exit')
      }
      if (!options.home && !keep) rmSync(home, { recursive: true, force: true })
    },
  }
}

/** The shortest time between two polls of {@link until}, in milliseconds. */
const MIN_POLL_MS = 100

/**
 * Polls `probe` until it returns something: every 100 ms at first, and less often the longer it waits, because each poll takes
 * processor time from what is waited for. Throws after `timeoutMs` with the last error.
 *
 * @param maxPollMs the longest time between two polls
 */
export async function until<T>(
  what: string,
  probe: () => Promise<T | undefined> | T | undefined,
  timeoutMs = 600_000,
  maxPollMs = 1_000,
): Promise<T> {
  const beganMs = Date.now()
  let last: unknown
  for (;;) {
    const waitedMs = Date.now() - beganMs
    if (waitedMs >= timeoutMs) break
    try {
      const value = await probe()
      if (value !== undefined) return value
    } catch (error) {
      last = error
    }
    await sleep(Math.min(maxPollMs, Math.max(MIN_POLL_MS, waitedMs / 10)))
  }
  throw new Error(`timed out waiting for ${what}`, { cause: last })
}

/** Waits until an update has ended and returns it. */
export function untilUpdateEnded(service: Service, id: string): Promise<UpdateEntry> {
  return until(
    `the end of update ${id}`,
    async () => {
      const update = await service.admin<UpdateEntry>('GET', `/admin/updates/${id}`)
      return update.finished_at === null ? undefined : update
    },
    600_000,
  )
}

/** Waits until there are serving nodes and all of them serve the desired mask. */
export function untilConverged(service: Service): Promise<StatusReport> {
  return until('the fleet to converge', async () => {
    const status = await service.admin<StatusReport>('GET', '/admin/status')
    return status.models.length > 0 && status.models.every((model) => model.converged) ? status : undefined
  })
}

/** Returns the pids below `pid`, children before grandchildren. */
export function descendants(pid: number | undefined): number[] {
  if (pid === undefined) return []
  const parents = new Map<number, number>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]))
    } catch {
      // ended meanwhile
    }
  }
  const found = [pid]
  for (const ancestor of found)
    for (const [child, parent] of parents) if (parent === ancestor) found.push(child)
  return found.slice(1)
}

export function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
  } catch {
    return ''
  }
}

async function untilReady(child: ChildProcess, home: string, port: number, output: () => string) {
  const outcome = await until(
    'npm start',
    async () => {
      if (child.exitCode !== null) return 'ended'
      const credentials = JSON.parse(readFileSync(join(home, 'credentials.json'), 'utf8')) as {
        baseUrl: string
        apiKey: string
        adminKey: string
      }
      const response = await fetch(`http://127.0.0.1:${port}/v1/models`, {
        headers: { authorization: `Bearer ${credentials.apiKey}` },
        // The gateway may accept a connection before it can serve it, and forget it.
        signal: AbortSignal.timeout(5000),
      })
      const models = (await response.json()) as { data?: unknown[] }
      // A home that was used before names the port of then until this start is through.
      const isCurrent = credentials.baseUrl === `http://127.0.0.1:${port}`
      return isCurrent && models.data?.length ? credentials : undefined
    },
    600_000,
  )
  if (outcome === 'ended') throw new Error(`npm start ended with ${child.exitCode}:\n${output()}`)
  return outcome
}
