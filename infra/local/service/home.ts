import { createHash, randomBytes } from 'node:crypto'
import { chmodSync, existsSync, readFileSync, renameSync, statSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { formatBytes } from '../../../gpu-node/src/platform/quantities.ts'
import { makeFolder, PRIVATE } from '../../../gpu-node/src/platform/make-folder.ts'
import { makeWritableFolder } from '../../../gpu-node/src/platform/writable-folder.ts'
import { describeSystemError } from '../../../gpu-node/src/platform/system-error.ts'
import { StartError } from '../processes/start-error.ts'

/** Disk space for the default model's packed weights, statistics and first mask, and the databases. */
const NEW_HOME_BYTES = 700_000_000
/** Disk space that a home with these needs for a while. */
const OLD_HOME_BYTES = 50_000_000

/** The secrets of one local service, created once and kept. */
export interface Secrets {
  /** The gateway's secret, from which those of its nodes are derived. */
  nodeSecret: string
  adminKey: string
  /** Part of the hash of every API key. */
  keyPepper: string
  /** The key that the gateway created; `undefined` before that. */
  apiKey: string | undefined
}

/** The folder with everything that a service keeps between runs. */
export interface Home {
  readonly dir: string
  readonly secrets: Secrets
  /** D1, R2, Durable Objects, queues and workflows of the local gateway. */
  readonly stateDir: string
  /** The file from which Wrangler reads the gateway's secrets. */
  readonly gatewayEnvPath: string
  readonly gatewayLogPath: string
  readonly nodeLogPath: string
  /** Stores the API key, and writes `credentials.json`, which tells programs how to call the service. */
  saveApiKey(apiKey: string, baseUrl: string): void
}

/**
 * Creates the folder of a home if it does not exist.
 *
 * @throws AppError when it cannot be created or written; StartError when disk space is short
 */
export function makeHomeDir(dir: string): void {
  makeWritableFolder(dir, 'COPAL_HOME', PRIVATE)
  if (isOwnHome(dir)) chmodSync(dir, PRIVATE)
  const { bavail, bsize } = statfsSync(dir)
  const freeBytes = bavail * bsize
  const neededBytes = existsSync(join(dir, 'state')) ? OLD_HOME_BYTES : NEW_HOME_BYTES
  if (freeBytes >= neededBytes) return
  throw new StartError(
    `Not enough disk space in ${dir}: ${formatBytes(neededBytes)} are needed, ${formatBytes(freeBytes)} are free. ` +
      'Free some space, or set COPAL_HOME to a larger disk.',
  )
}

/**
 * Returns whether a folder is used only as a home, so that other users may be locked out. A folder that others can
 * write to, like `/tmp`, is shared, even if an earlier start has left files in it.
 */
function isOwnHome(dir: string): boolean {
  return existsSync(join(dir, 'secrets.json')) && (statSync(dir).mode & 0o022) === 0
}

/**
 * Opens a home and creates its secrets at the first start. Only the owner can read files with secrets, and the state.
 *
 * @param recogniserToken a secret of the gateway that is not the home's
 * @throws StartError when its secrets are damaged, or the token cannot be written
 */
export function openHome(dir: string, recogniserToken?: string): Home {
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
    `NODE_SECRET=${secrets.nodeSecret}\nADMIN_KEY_SHA256=${adminKeySha256}\nKEY_PEPPER=${secrets.keyPepper}\n` +
      (recogniserToken === undefined ? '' : `COPAL_RECOGNISER_TOKEN=${quote(recogniserToken)}\n`),
  )
  const stateDir = join(dir, 'state')
  // It has texts of clients. Closed also where the home is open to other users.
  makeFolder(stateDir, PRIVATE)
  chmodSync(stateDir, PRIVATE)

  return {
    dir,
    secrets,
    stateDir,
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

/** Quotes a value for `gateway.env`, where neither kind of quotes knows an escape. */
function quote(token: string): string {
  const mark = ["'", '`'].find((each) => !token.includes(each))
  if (mark !== undefined) return `${mark}${token}${mark}`
  throw new StartError('COPAL_RECOGNISER_TOKEN has both an apostrophe and a backtick. Use another token.')
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
    throw new StartError(`${path} is damaged. Remove it to get new keys; masks and domains are kept.`)
  }
  // Homes of older versions have no pepper. The gateway still accepts their keys.
  return { nodeSecret, adminKey, apiKey, keyPepper: typeof keyPepper === 'string' ? keyPepper : newSecret() }
}

function newSecret(): string {
  return randomBytes(32).toString('hex')
}

function toJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`
}

/** Replaces a file in one step, so that a reader sees the old or the new one. Other users can never read it. */
function writePrivate(path: string, text: string): void {
  const draft = `${path}.new`
  writeFileSync(draft, text, { mode: 0o600 })
  chmodSync(draft, 0o600)
  renameSync(draft, path)
}
