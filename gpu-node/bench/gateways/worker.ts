/**
 * A Worker in workerd, a process of its own. It is called at a socket of the Worker's own, and calls nodes over the bare
 * network: nothing of Wrangler's is between.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { convertV4MiniflareOptions, Miniflare } from 'miniflare'
import { unstable_getMiniflareWorkerOptions } from 'wrangler'
import { childrenOf } from './processes.ts'

/** To the process: what to run. */
export interface RunWorker {
  /** Our gateway as it would be deployed, with local D1 and Durable Objects, or what only passes requests on. */
  kind: 'gateway' | 'bare'
  /** The checkout, for its `wrangler.toml` and migrations. */
  root: string
  /** The bundle. */
  scriptPath: string
  stateDir: string
  variables: Record<string, string>
  /** Of V8, to profile; 0 is any. */
  inspectorPort?: number
}
/** From the process: where the Worker listens. */
export type WorkerSaid = { url: string; pids: number[] } | { error: string }

process.on('message', (asked: RunWorker) => void run(asked))
process.on('disconnect', () => process.exit())

/** The network itself: Miniflare leads what a Worker fetches through another. */
const NETWORK = { network: { allow: ['private', 'public'] } }
/** Of the bare Worker, which needs nothing of a day after this. */
const COMPATIBILITY_DATE = '2026-01-01'

async function run({ kind, root, scriptPath, stateDir, variables, inspectorPort }: RunWorker): Promise<void> {
  try {
    const options =
      kind === 'gateway'
        ? gatewayOptions(root, variables)
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
    process.send?.({ url: url.origin, pids } satisfies WorkerSaid)
  } catch (error) {
    process.send?.({ error: String(error) } satisfies WorkerSaid)
  }
}

function gatewayOptions(root: string, variables: Record<string, string>) {
  const { workerOptions } = unstable_getMiniflareWorkerOptions(join(root, 'wrangler.toml'))
  const { modulesRules: _, ...options } = workerOptions
  return {
    ...options,
    bindings: { ...(options.bindings as Record<string, string>), ...variables },
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
