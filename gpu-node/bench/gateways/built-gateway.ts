import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { nodeSecret } from '@copal/shared/wire/node-secret.ts'
import { runWrangler } from '../../../infra/deploy/wrangler.ts'
import { ensureDashboard } from '../../../infra/local/dashboard/ensure-dashboard.ts'
import { IpcChild } from './child.ts'
import type { RunWorker, WorkerMessage } from './worker.ts'

/** A running gateway as it would be deployed, in workerd without Wrangler. */
export interface BuiltGateway {
  readonly url: string
  /** Processes of workerd. */
  readonly pids: readonly number[]
  readonly adminKey: string
  /** Derives the secret of a node. */
  nodeSecret(id: string): Promise<string>
  stop(): Promise<void>
}

/**
 * Builds and starts the Worker of a checkout.
 *
 * @param options.dir folder for its bundle and databases
 */
export async function startBuiltGateway(options: {
  root: string
  dir: string
  variables?: Record<string, string>
  /** Port of V8's inspector, for profiling; 0 for any free port. */
  inspectorPort?: number
}): Promise<BuiltGateway> {
  const { root, dir, variables, inspectorPort } = options
  mkdirSync(dir, { recursive: true })
  const bundle = join(dir, 'bundle')
  // An older checkout has none.
  if (existsSync(join(root, 'gateway', 'dashboard'))) ensureDashboard(root)
  const build = await runWrangler(['deploy', '--dry-run', '--outdir', bundle], { terminal: false, root })
  if (build.exitCode !== 0) throw new Error(`The Worker of ${root} cannot be bundled:\n${build.output}`)
  const adminKey = randomSecret()
  const gatewaySecret = randomSecret()
  const child = new IpcChild<WorkerMessage>('worker.ts')
  try {
    const { url, pids } = await child.ask({
      kind: 'gateway',
      root,
      scriptPath: join(bundle, 'index.js'),
      stateDir: join(dir, 'state'),
      variables: {
        NODE_SECRET: gatewaySecret,
        KEY_PEPPER: randomSecret(),
        ADMIN_KEY_SHA256: createHash('sha256').update(adminKey).digest('hex'),
        ...variables,
      },
      ...(inspectorPort === undefined ? {} : { inspectorPort }),
    } satisfies RunWorker)
    return {
      url,
      pids,
      adminKey,
      nodeSecret: (id) => nodeSecret(gatewaySecret, id),
      stop: () => child.stop(),
    }
  } catch (error) {
    await child.stop()
    throw error
  }
}

/** Returns 48 random hexadecimal digits. */
export function randomSecret(): string {
  return randomBytes(24).toString('hex')
}
