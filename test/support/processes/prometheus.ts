import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { z } from 'zod'
import { freePort } from '../../../infra/local/processes/ports.ts'
import { until } from './service.ts'
import { CACHE_DIR } from '../models/default-model.ts'

const run = promisify(execFile)

/** Where the programs of Prometheus are. */
interface PrometheusPrograms {
  prometheus: string
  promtool: string
}

let found: Promise<PrometheusPrograms> | undefined

/**
 * Returns the programs of the system, or else those of Debian's package, which is unpacked once beside the cached models
 * without being installed.
 *
 * @throws Error with one line that says what to install
 */
function prometheusPrograms(): Promise<PrometheusPrograms> {
  return (found ??= findPrograms())
}

async function findPrograms(): Promise<PrometheusPrograms> {
  const installed = (process.env['PATH'] ?? '')
    .split(delimiter)
    .find((dir) => existsSync(join(dir, 'promtool')))
  if (installed) return programsIn(installed)
  const folder = join(CACHE_DIR, 'prometheus')
  if (!existsSync(folder)) await unpackDebianPackage(folder)
  return programsIn(join(folder, 'usr', 'bin'))
}

function programsIn(dir: string): PrometheusPrograms {
  return { prometheus: join(dir, 'prometheus'), promtool: join(dir, 'promtool') }
}

async function unpackDebianPackage(folder: string): Promise<void> {
  const made = `${folder}.${process.pid}`
  try {
    await mkdir(made, { recursive: true })
    await run('apt-get', ['download', 'prometheus'], { cwd: made })
    const [archive] = readdirSync(made).filter((name) => name.endsWith('.deb'))
    await run('dpkg-deb', ['-x', join(made, archive ?? ''), made])
    await rename(made, folder)
  } catch (cause) {
    throw new Error(
      'Prometheus is neither installed nor in the package archive: install the package prometheus (apt-get install prometheus).',
      { cause },
    )
  } finally {
    await rm(made, { recursive: true, force: true })
  }
}

/** Runs promtool. @returns its output and its exit code */
export async function promtool(args: readonly string[]): Promise<{ output: string; exitCode: number }> {
  const programs = await prometheusPrograms()
  try {
    const { stdout, stderr } = await run(programs.promtool, args)
    return { output: stdout + stderr, exitCode: 0 }
  } catch (thrown) {
    const { code, stdout = '', stderr = '' } = thrown as { code?: unknown; stdout?: string; stderr?: string }
    if (typeof code !== 'number') throw thrown
    return { output: stdout + stderr, exitCode: code }
  }
}

const labels = z.record(z.string(), z.string())
const queryResponse = z.object({
  status: z.literal('success'),
  data: z.object({ result: z.array(z.object({ metric: labels })) }),
})
const alertsResponse = z.object({
  data: z.object({ alerts: z.array(z.object({ labels, annotations: labels, state: z.string() })) }),
})
const targetsResponse = z.object({
  data: z.object({ activeTargets: z.array(z.object({ labels, health: z.string(), lastError: z.string() })) }),
})

/** A running Prometheus. */
export interface Prometheus {
  url: string
  /** Evaluates an expression now. @returns the labels of each series; throws for an invalid expression */
  query(expr: string): Promise<Record<string, string>[]>
  /** Returns the alerts that fire. */
  firing(): Promise<{ labels: Record<string, string>; annotations: Record<string, string> }[]>
  /** Returns the targets with their health. */
  targets(): Promise<{ labels: Record<string, string>; health: string; lastError: string }[]>
  stop(): Promise<void>
}

/** Starts a Prometheus with this configuration file, an empty database and a free port. */
export async function startPrometheus(config: string): Promise<Prometheus> {
  const { prometheus } = await prometheusPrograms()
  const dir = await mkdtemp(join(tmpdir(), 'copal-prometheus-'))
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const child = spawn(
    prometheus,
    [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(dir, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--enable-feature=exemplar-storage',
      '--log.level=warn',
    ],
    { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] },
  )
  let log = ''
  child.stderr.on('data', (data: Buffer) => (log += data.toString()))
  const get = async (path: string): Promise<unknown> => {
    const response = await fetch(url + path, { signal: AbortSignal.timeout(60_000) })
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`)
    return response.json()
  }
  await until(
    'Prometheus',
    async () => {
      if (child.exitCode !== null) throw new Error(`Prometheus ended:\n${log}`)
      return (await fetch(`${url}/-/ready`)).ok || undefined
    },
    300_000,
  ).catch((error: unknown) => {
    throw new Error(log, { cause: error })
  })
  return {
    url,
    async query(expr) {
      const path = `/api/v1/query?query=${encodeURIComponent(expr)}`
      return queryResponse.parse(await get(path)).data.result.map(({ metric }) => metric)
    },
    async firing() {
      const { alerts } = alertsResponse.parse(await get('/api/v1/alerts')).data
      return alerts.filter(({ state }) => state === 'firing')
    },
    targets: async () => targetsResponse.parse(await get('/api/v1/targets?state=active')).data.activeTargets,
    stop: () => end(child, dir),
  }
}

async function end(child: ChildProcess, dir: string): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    const exit = once(child, 'exit')
    child.kill('SIGTERM')
    await exit
  }
  await rm(dir, { recursive: true, force: true })
}
