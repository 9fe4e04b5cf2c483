/**
 * The process of the gateway under `npm start`: runs the Worker in workerd, with D1, R2, queues, Durable Objects and
 * Workflows in a folder. Requests reach the Worker on a socket of its own. Nothing of Wrangler's development server is
 * before it, so nothing but the Worker answers.
 *
 * Its argument is {@link GatewayProcess} as JSON, its messages are {@link GatewayMessage}.
 */
import { readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import { convertV4MiniflareOptions, Log, LogLevel, Miniflare } from 'miniflare'
import type { GatewayBundle } from './gateway-bundle.ts'
import { WORKER_NAME, workerOptions } from './worker-options.ts'

/** How the gateway is run. */
export interface GatewayProcess extends GatewayBundle {
  port: number
  /** The folder of databases and files. */
  stateDir: string
  /** A file with the gateway's secrets, like `.env`. */
  secretsPath: string
  variables: Readonly<Record<string, string>>
}

/** Fires a cron trigger; null is every trigger. */
export interface GatewayMessage {
  cron: string | null
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

const { port, stateDir, secretsPath, variables, ...bundle } = JSON.parse(
  process.argv[2] ?? '{}',
) as GatewayProcess
const secrets = parseEnv(readFileSync(secretsPath, 'utf8')) as Record<string, string>
const gateway = new Miniflare(
  convertV4MiniflareOptions({
    ...workerOptions(bundle, { ...secrets, ...variables }, extraAuthorities()),
    unsafeDirectSockets: [{ host: '127.0.0.1', port }],
    resourcePersistencePath: stateDir,
    // Else it asks Cloudflare where this machine is.
    cf: false,
    log: new Log(LogLevel.WARN),
    handleStructuredLogs({ level, message }) {
      const isTrouble = level === 'warn' || level === 'error'
      const stream = isTrouble ? process.stderr : process.stdout
      stream.write(`${message}\n`)
    },
  }),
)

process.on('message', ({ cron }: GatewayMessage) => {
  fire(cron).catch((error: unknown) => process.stderr.write(`A cron trigger failed: ${String(error)}\n`))
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void end())

try {
  await gateway.ready
} catch (error) {
  process.stderr.write(`${String(error)}\n`)
  process.exit(1)
}

/** Returns the certificates that `NODE_EXTRA_CA_CERTS` names, as Node trusts them. */
function extraAuthorities(): string[] {
  const path = process.env['NODE_EXTRA_CA_CERTS']
  return path ? (readFileSync(path, 'utf8').match(CERTIFICATE) ?? []) : []
}

async function fire(cron: string | null): Promise<void> {
  const worker = await gateway.getWorker(WORKER_NAME)
  await worker.scheduled(cron === null ? {} : { cron })
}

async function end(): Promise<void> {
  await gateway.dispose()
  process.exit()
}
