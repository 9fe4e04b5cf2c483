/**
 * The process that runs a Worker in workerd. Requests reach it on a socket of the Worker, and it calls nodes directly
 * over the network, so Wrangler is not involved.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { convertV4MiniflareOptions, Miniflare } from 'miniflare'
import type { GatewayBundle } from '../../../infra/local/service/gateway-bundle.ts'
import { WORKER_NAME, workerOptions } from '../../../infra/local/service/worker-options.ts'
import { applyMigrations } from './apply-migrations.ts'
import { childrenOf } from './processes.ts'

/** Message to the process: the Worker to run. */
export interface RunWorker {
  /** Our gateway as it would be deployed, with local D1 and Durable Objects; without it a Worker that only forwards requests. */
  gateway?: {
    bundle: GatewayBundle
    /** The checkout whose migrations are used. */
    root: string
  }
  stateDir: string
  variables: Record<string, string>
  /** Port of V8's inspector, for profiling; 0 for any free port. */
  inspectorPort?: number
}
/** Message from the process: the address of the Worker. */
export type WorkerMessage = { url: string; pids: number[] } | { error: string }

process.on('message', (request: RunWorker) => void run(request))
process.on('disconnect', () => process.exit())

/** The Worker that only forwards requests, and its compatibility date. */
const BARE_WORKER = join(import.meta.dirname, 'bare-worker.mjs')
const COMPATIBILITY_DATE = '2026-01-01'

async function run({ gateway, stateDir, variables, inspectorPort }: RunWorker): Promise<void> {
  try {
    const options = gateway ? workerOptions(gateway.bundle, variables) : bareOptions(variables)
    const worker = new Miniflare(
      convertV4MiniflareOptions({
        ...options,
        unsafeDirectSockets: [{ host: '127.0.0.1', port: 0 }],
        resourcePersistencePath: stateDir,
        ...(inspectorPort === undefined ? {} : { inspectorPort }),
      }),
    )
    await worker.ready
    if (gateway) await applyMigrations(worker, gateway.root)
    const url = await worker.unsafeGetDirectURL(WORKER_NAME)
    const pids = childrenOf(process.pid)
    process.send?.({ url: url.origin, pids } satisfies WorkerMessage)
  } catch (error) {
    process.send?.({ error: String(error) } satisfies WorkerMessage)
  }
}

function bareOptions(variables: Record<string, string>) {
  return {
    name: WORKER_NAME,
    compatibilityDate: COMPATIBILITY_DATE,
    modules: [{ type: 'ESModule' as const, path: 'index.js', contents: readFileSync(BARE_WORKER, 'utf8') }],
    bindings: variables,
    serviceBindings: { NETWORK: { network: { allow: ['private', 'public'] } } },
    durableObjects: { COUNTER: 'Counter' },
  }
}
