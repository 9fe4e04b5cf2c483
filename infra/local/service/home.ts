import { createHash, randomBytes } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  statSync,
  statfsSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { formatBytes } from '../../../gpu-node/src/platform/quantities.ts'
import { describeSystemError } from '../../../gpu-node/src/platform/system-error.ts'
import { StartError } from '../processes/start-error.ts'

/** The default model's packed weights, statistics and first mask, and the databases. */
const NEW_HOME_BYTES = 700_000_000
/** What a home that has them grows by before anybody looks again. */
const OLD_HOME_BYTES = 50_000_000

/** The secrets of one local service, made once and kept. */
export interface Secrets {
  /** The gateway's: those of its nodes are made of it. */
  nodeSecret: string
  adminKey: string
  /** Goes into the hash of every API key. */
  keyPepper: string
  /** Of the gateway's making; `undefined` until it has made one. */
  apiKey: string | undefined
}

/** Where a service keeps what outlives it. */
export interface Home {
  readonly dir: string
  readonly secrets: Secrets
  /** D1, R2, Durable Objects, queues and workflows of the local gateway. */
  readonly stateDir: string
  /** What Wrangler reads the gateway's secrets from. */
  readonly gatewayEnvPath: string
  readonly gatewayLogPath: string
  readonly nodeLogPath: string
  /** Keeps the gateway's API key, and tells programs how to call the service. */
  saveApiKey(apiKey: string, baseUrl: string): void
}

/**
 * Makes the folder of a home, or takes one that is there.
 *
 * @throws StartError when it cannot be made or written.
 */
export function makeHomeDir(dir: string): void {
  let freeBytes: number
  try {
    const isNew = mkdirSync(dir, { recursive: true }) !== undefined
    if (isNew || isOwnHome(dir)) chmodSync(dir, 0o700)
    const { bavail, bsize } = statfsSync(dir)
    freeBytes = bavail * bsize
  } catch (cause) {
    throw new StartError(
      `Cannot use ${dir}: ${describeSystemError(cause, process.cwd()) ?? String(cause)}. Set COPAL_HOME to a folder that you may write.`,
      { cause },
    )
  }
  const neededBytes = existsSync(join(dir, 'state')) ? OLD_HOME_BYTES : NEW_HOME_BYTES
  if (freeBytes >= neededBytes) return
  throw new StartError(
    `No disk space left in ${dir}: ${formatBytes(neededBytes)} are needed, ${formatBytes(freeBytes)} are free. ` +
      'Free some, or set COPAL_HOME to a larger disk.',
  )
}

/**
 * Whether a folder is a home alone, and may be closed to others. One that others may write, like `/tmp`, is
 * shared, whatever an earlier start has left in it.
 */
function isOwnHome(dir: string): boolean {
  return existsSync(join(dir, 'secrets.json')) && (statSync(dir).mode & 0o022) === 0
}

/**
 * Opens a home, making its secrets at the first start. Whatever holds a secret is for the owner alone.
 *
 * @throws StartError when its secrets are damaged.
 */
export function openHome(dir: string): Home {
  const secretsPath = join(dir, 'secrets.json')
  const secrets = readSecrets(secretsPath) ?? {
    nodeSecret: newSecret(),
    keyPepper: newSecret(),
    adminKey: `copal-admin-${randomBytes(24).toString('base64url')}`,
    apiKey: undefined,
  }
  writePrivate(secretsPath, toJson(secrets))
  const gatewayEnvPath = join(dir, 'gateway.env')
  const adminKeySha256 = createHash('sha256').update(secrets.adminKey).digest('hex')
  writePrivate(
    gatewayEnvPath,
    `NODE_SECRET=${secrets.nodeSecret}\nADMIN_KEY_SHA256=${adminKeySha256}\nKEY_PEPPER=${secrets.keyPepper}\n`,
  )

  return {
    dir,
    secrets,
    stateDir: join(dir, 'state'),
    gatewayEnvPath,
    gatewayLogPath: join(dir, 'gateway.log'),
    nodeLogPath: join(dir, 'node.log'),
    saveApiKey(apiKey, baseUrl) {
      secrets.apiKey = apiKey
      writePrivate(secretsPath, toJson(secrets))
      writePrivate(join(dir, 'credentials.json'), toJson({ baseUrl, apiKey, adminKey: secrets.adminKey }))
    },
  }
}

function readSecrets(path: string): Secrets | undefined {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined
    throw new StartError(
      `Cannot read ${path}: ${describeSystemError(cause, process.cwd(), path) ?? String(cause)}.`,
      { cause },
    )
  }
  let stored: Partial<Secrets>
  try {
    stored = JSON.parse(text) as Partial<Secrets>
  } catch {
    stored = {}
  }
  const { nodeSecret, adminKey, apiKey, keyPepper } = stored
  if (typeof nodeSecret !== 'string' || typeof adminKey !== 'string') {
    throw new StartError(`${path} is damaged. Remove it to get new keys; masks and domains stay.`)
  }
  // A home from before there was a pepper gets one; the gateway still knows its keys.
  return { nodeSecret, adminKey, apiKey, keyPepper: typeof keyPepper === 'string' ? keyPepper : newSecret() }
}

function newSecret(): string {
  return randomBytes(32).toString('hex')
}

function toJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`
}

/** Replaced in one step, so that a reader sees the old or the new file, and never one that others may read. */
function writePrivate(path: string, text: string): void {
  const draft = `${path}.new`
  writeFileSync(draft, text, { mode: 0o600 })
  chmodSync(draft, 0o600)
  renameSync(draft, path)
}
