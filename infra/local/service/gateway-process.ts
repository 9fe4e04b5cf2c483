import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { keepBundle, type GatewayBundle } from './gateway-bundle.ts'
import type { Home } from './home.ts'
import type { GatewayProcess } from './run-gateway.ts'
import { openLog } from '../processes/log-file.ts'
import type { Settings } from './service-settings.ts'
import { readStamp } from '../toolchain/read-stamp.ts'
import { StartError } from '../processes/start-error.ts'
import { lastLines, type Part } from '../processes/supervise.ts'

/**
 * Returns the gateway as a part: a process with workerd, which both end when this process ends.
 *
 * @param built the built Worker, of which the home gets a copy: the process may have to be started again after days. Without one
 * Wrangler's development server runs the sources, and reloads them.
 */
export function gatewayPart(settings: Settings, home: Home, built?: GatewayBundle): Part {
  const bundle = built && keepBundle(built, join(home.dir, 'gateway'))
  const endWithParent = join(import.meta.dirname, '..', 'processes', 'end-with-parent.mjs')
  return {
    name: 'gateway',
    logPath: home.gatewayLogPath,
    spawn() {
      removeTraces(home)
      const log = openLog(home.gatewayLogPath)
      const child = spawn(
        process.execPath,
        [
          endWithParent,
          process.execPath,
          ...(bundle ? runGateway(settings, home, bundle) : wranglerDev(settings, home)),
        ],
        {
          cwd: settings.root,
          env: wranglerEnvironment(home),
          detached: true,
          // The channel is for GatewayMessage.
          stdio: ['pipe', log, log, 'ipc'],
        },
      )
      closeSync(log)
      child.stdin?.on('error', () => undefined)
      return child
    },
    askToEnd: (child) => child.stdin?.end(),
    graceMs: 6000,
  }
}

/** The file in the folder of the databases that holds the {@link migrationsHash} of what they were migrated by. */
export const MIGRATIONS_STAMP = 'migrations.sha256'

/** Returns the SHA-256, hexadecimal, of the migrations of a checkout. */
export function migrationsHash(root: string): string {
  const dir = join(root, 'migrations')
  const hash = createHash('sha256')
  for (const name of readdirSync(dir)
    .filter((file) => file.endsWith('.sql'))
    .toSorted()) {
    hash.update(`${name}\n`).update(readFileSync(join(dir, name)))
  }
  return hash.digest('hex')
}

/**
 * Migrates the local D1 database to the schema of this checkout.
 *
 * @throws StartError with the end of Wrangler's output
 */
export async function applyMigrations(settings: Settings, home: Home, signal: AbortSignal): Promise<void> {
  const applied = migrationsHash(settings.root)
  // Avoids asking Wrangler, which takes seconds. The stamp is beside the database, so that both are deleted together.
  const stamp = join(home.stateDir, MIGRATIONS_STAMP)
  mkdirSync(home.stateDir, { recursive: true })
  if (readStamp(stamp) === applied) return
  const log = openLog(home.gatewayLogPath)
  const args = [
    wranglerPath(settings),
    'd1',
    'migrations',
    'apply',
    'copal',
    '--local',
    '--persist-to',
    home.stateDir,
  ]
  const child = spawn(process.execPath, args, {
    cwd: settings.root,
    env: { ...wranglerEnvironment(home), CI: 'true' },
    stdio: ['ignore', log, log],
    signal,
  })
  closeSync(log)
  const [code] = (await once(child, 'exit')) as [number | null]
  if (code !== 0) {
    throw new StartError(
      `The database migrations failed. If this home was created by an older version of copal, set COPAL_HOME to a new folder. ` +
        `The log ${home.gatewayLogPath} ends:\n${lastLines(home.gatewayLogPath, 12)}`,
    )
  }
  writeFileSync(stamp, applied)
}

function runGateway(settings: Settings, home: Home, bundle: GatewayBundle): string[] {
  const options: GatewayProcess = {
    ...bundle,
    port: settings.port,
    // As Wrangler names it.
    stateDir: join(home.stateDir, 'v3'),
    secretsPath: home.gatewayEnvPath,
    variables: settings.gatewayVariables,
  }
  return [join(import.meta.dirname, 'run-gateway.ts'), JSON.stringify(options)]
}

function wranglerDev(settings: Settings, home: Home): string[] {
  return [
    wranglerPath(settings),
    'dev',
    '--ip',
    '127.0.0.1',
    '--port',
    String(settings.port),
    // 0 is any free port: two services on one machine must not use the same one.
    '--inspector-port',
    String(settings.inspectorPorts?.gateway ?? 0),
    '--persist-to',
    home.stateDir,
    '--env-file',
    home.gatewayEnvPath,
    ...Object.entries(settings.gatewayVariables).flatMap(([name, value]) => ['--var', `${name}:${value}`]),
    '--show-interactive-dev-session=false',
  ]
}

function wranglerPath(settings: Settings): string {
  return join(settings.root, 'node_modules', 'wrangler', 'bin', 'wrangler.js')
}

function wranglerEnvironment(home: Home): NodeJS.ProcessEnv {
  return {
    ...process.env,
    WRANGLER_LOG_PATH: join(home.dir, 'wrangler'),
    // Wrangler connects Workers on one machine by name. Two gateways of copal must not find each other.
    WRANGLER_REGISTRY_PATH: join(home.dir, 'wrangler', 'registry'),
    // Wrangler's explorer lets anyone who reaches the port read and change the database without a key.
    X_LOCAL_EXPLORER: 'false',
    // For the explorer it writes some ten spans of each request to the disk.
    X_LOCAL_OBSERVABILITY: 'false',
  }
}

/** Removes the traces of requests that Wrangler wrote under versions before this one. */
function removeTraces(home: Home): void {
  rmSync(join(home.stateDir, 'v3', 'observability'), { recursive: true, force: true })
}
