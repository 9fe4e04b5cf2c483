/**
 * The process that runs a Worker in workerd. Requests reach it on a socket of the Worker, and it calls nodes directly
 * over the network, so Wrangler is not involved.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { convertV4MiniflareOptions, Miniflare } from 'miniflare'
import { childrenOf } from './processes.ts'

/** Message to the process: the Worker to run. */
export interface RunWorker {
  /**
   * Our gateway as it would be deployed, with local D1 and Durable Objects, or a Worker that only forwards requests.
   */
  kind: 'gateway' | 'bare'
  /** The checkout whose migrations are used. */
  root: string
  /** Path of the bundle. */
  scriptPath: string
  /** Path of the gateway's options for Miniflare; the bare Worker has none. */
  optionsPath?: string
  stateDir: string
  variables: Record<string, string>
  /** Port of V8's inspector, for profiling; 0 for any free port. */
  inspectorPort?: number
}
/** Message from the process: the address of the Worker. */
export type WorkerMessage = { url: string; pids: number[] } | { error: string }

process.on('message', (request: RunWorker) => void run(request))
process.on('disconnect', () => process.exit())

/** Direct access to the network; by default Miniflare sends the requests of a Worker through another one. */
const NETWORK = { network: { allow: ['private', 'public'] } }
/** Compatibility date of the bare Worker. */
const COMPATIBILITY_DATE = '2026-01-01'

async function run({
  kind,
  root,
  scriptPath,
  optionsPath,
  stateDir,
  variables,
  inspectorPort,
}: RunWorker): Promise<void> {
  try {
    const options =
      optionsPath !== undefined
        ? gatewayOptions(optionsPath, variables)
        : {
            compatibilityDate: COMPATIBILITY_DATE,
            bindings: variables,
            serviceBindings: { NETWORK },
            durableObjects: { COUNTER: 'Counter' },
          }
    const worker = new Miniflare(
      convertV4MiniflareOptions({
        ...options,
        name: 'copal',
        modules: [{ type: 'ESModule', path: 'index.js', contents: readFileSync(scriptPath, 'utf8') }],
        unsafeDirectSockets: [{ host: '127.0.0.1', port: 0 }],
        resourcePersistencePath: stateDir,
        ...(inspectorPort === undefined ? {} : { inspectorPort }),
      }),
    )
    await worker.ready
    if (kind === 'gateway') {
      const database = await worker.getD1Database('DB')
      await database.batch(migrations(root).map((statement) => database.prepare(statement)))
    }
    const url = await worker.unsafeGetDirectURL('copal')
    const pids = childrenOf(process.pid)
    process.send?.({ url: url.origin, pids } satisfies WorkerMessage)
  } catch (error) {
    process.send?.({ error: String(error) } satisfies WorkerMessage)
  }
}

function gatewayOptions(path: string, variables: Record<string, string>) {
  const options = JSON.parse(readFileSync(path, 'utf8')) as { bindings: Record<string, string> }
  return {
    ...options,
    bindings: { ...options.bindings, ...variables },
    serviceBindings: { NODE_CERTIFICATE: NETWORK },
  }
}

function migrations(root: string): string[] {
  const dir = join(root, 'migrations')
  return readdirSync(dir)
    .filter((name) => name.endsWith('.sql'))
    .toSorted()
    .flatMap((name) => readFileSync(join(dir, name), 'utf8').split('--> statement-breakpoint'))
    .filter((statement) => statement.trim() !== '')
}
