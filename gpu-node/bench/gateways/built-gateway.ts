import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { nodeSecret } from '@copal/shared/wire/node-secret.ts'
import { gatewayBundle } from '../../../infra/local/service/gateway-bundle.ts'
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
 * @param options.dir folder for its databases
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
  const bundle = await gatewayBundle(root)
  const adminKey = randomSecret()
  const gatewaySecret = randomSecret()
  const child = new IpcChild<WorkerMessage>('worker.ts')
  try {
    const { url, pids } = await child.ask({
      gateway: { bundle, root },
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
