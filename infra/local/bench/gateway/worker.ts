/**
 * Our gateway in workerd, a process of its own: the bundle that would be deployed, with local D1 and Durable Objects. It
 * is called at a socket of the Worker's own, and calls nodes over the bare network: nothing of Wrangler's is between.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { convertV4MiniflareOptions, Miniflare } from 'miniflare'
import { unstable_getMiniflareWorkerOptions } from 'wrangler'
import { childrenOf } from './processes.ts'

/** To the process: what to run. */
export interface RunWorker {
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

async function run({ root, scriptPath, stateDir, variables, inspectorPort }: RunWorker): Promise<void> {
  try {
    const { workerOptions } = unstable_getMiniflareWorkerOptions(join(root, 'wrangler.toml'))
    const { modulesRules: _, ...options } = workerOptions
    const worker = new Miniflare(
      convertV4MiniflareOptions({
        ...options,
        name: 'copal',
        modules: [{ type: 'ESModule', path: 'index.js', contents: readFileSync(scriptPath, 'utf8') }],
        bindings: { ...(options.bindings as Record<string, string>), ...variables },
        // Miniflare leads what a Worker fetches through another; this binding is the network itself.
        serviceBindings: { NODE_CERTIFICATE: { network: { allow: ['private', 'public'] } } },
        unsafeDirectSockets: [{ host: '127.0.0.1', port: 0 }],
        resourcePersistencePath: stateDir,
        ...(inspectorPort === undefined ? {} : { inspectorPort }),
      }),
    )
    await worker.ready
    const database = await worker.getD1Database('DB')
    const statements = migrations(root).map((statement) => database.prepare(statement))
    await database.batch(statements)
    const url = await worker.unsafeGetDirectURL('copal')
    const pids = childrenOf(process.pid)
    process.send?.({ url: url.origin, pids } satisfies WorkerSaid)
  } catch (error) {
    process.send?.({ error: String(error) } satisfies WorkerSaid)
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
