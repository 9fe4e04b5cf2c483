import { spawn } from 'node:child_process'
import { closeSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { gatewayState } from './apply-migrations.ts'
import { keepBundle, type GatewayBundle } from './gateway-bundle.ts'
import type { Home } from './home.ts'
import type { GatewayProcess } from './run-gateway.ts'
import { openLog } from '../processes/log-file.ts'
import type { Settings } from './service-settings.ts'
import type { Part } from '../processes/supervise.ts'

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

function runGateway(settings: Settings, home: Home, bundle: GatewayBundle): string[] {
  const options: GatewayProcess = {
    ...bundle,
    port: settings.port,
    stateDir: gatewayState(home),
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
  rmSync(join(gatewayState(home), 'observability'), { recursive: true, force: true })
}
