import { resolve } from 'node:path'
import type { Setting } from '@copal/shared/settings/setting.ts'
import { SETTINGS } from '@copal/shared/settings-table.ts'
import { suggestName } from '@copal/shared/suggest-name.ts'
import type { AdaptationPreset } from '@copal/shared/wire/admin-policy.ts'
import { cacheFolder } from '../../../gpu-node/src/platform/cache-folder.ts'
import { StartError } from '../processes/start-error.ts'

/** The settings of a local service, from environment variables. */
export interface Settings {
  /** The checkout. */
  root: string
  /** COPAL_HOME: keys, databases, masks, logs. */
  home: string
  /** COPAL_CACHE: models. */
  cache: string
  /** COPAL_MODEL: what the node serves. A relative path starts from the checkout, as it does for the node. */
  model: string
  /** COPAL_PORT: the gateway. */
  port: number
  /** COPAL_NODE_PORT: the node. */
  nodePort: number
  /** COPAL_FIRST_UPDATE: whether the first start also makes a first mask. */
  firstUpdate: boolean
  /** Variables that are passed on to the gateway. */
  gatewayVariables: Readonly<Record<string, string>>
  /** COPAL_RECOGNISER_TOKEN: a secret, which no process may have as an argument. */
  recogniserToken: string | undefined
  /** Ports of the debuggers; `npm run dev` opens them. */
  inspectorPorts?: { gateway: number; node: number }
}

const GATEWAY_VARIABLES = Object.entries<Setting>(SETTINGS)
  .filter(([, { readers, secret }]) => readers.includes('gateway') && !secret)
  .map(([name]) => name)

/**
 * Reads the settings.
 *
 * @throws StartError that names the variable
 */
export function readSettings(env: Readonly<Record<string, string | undefined>>): Settings {
  const root = resolve(import.meta.dirname, '..', '..', '..')
  const settings: Settings = {
    root,
    home: resolve(env.COPAL_HOME || resolve(root, '.copal')),
    cache: cacheFolder(env, root),
    model: absoluteModel(env.COPAL_MODEL || SETTINGS.COPAL_MODEL.default, root),
    port: readPort(env, 'COPAL_PORT', SETTINGS.COPAL_PORT.default),
    nodePort: readPort(env, 'COPAL_NODE_PORT', SETTINGS.COPAL_NODE_PORT.default),
    firstUpdate: readSwitch(env, 'COPAL_FIRST_UPDATE'),
    gatewayVariables: {
      // A person alone has no traffic that a canary could be judged by.
      COPAL_ADAPTATION: 'local' satisfies AdaptationPreset,
      ...Object.fromEntries(GATEWAY_VARIABLES.flatMap((name) => (env[name] ? [[name, env[name]]] : []))),
    },
    recogniserToken: env['COPAL_RECOGNISER_TOKEN'] || undefined,
  }
  if (settings.port === settings.nodePort) {
    throw new StartError(
      `COPAL_PORT and COPAL_NODE_PORT are both ${settings.port}. Set them to different ports.`,
    )
  }
  return settings
}

/** Removed settings, which the node rejects with what replaced them. */
const REMOVED = ['COPAL_PROVIDER']

/** Returns a line for each variable that is named like a setting but that nothing reads. */
export function describeUnknownSettings(env: Readonly<Record<string, string | undefined>>): string[] {
  const known = Object.keys(SETTINGS)
  return Object.keys(env)
    .filter((name) => name.startsWith('COPAL_') && !known.includes(name) && !REMOVED.includes(name))
    .map((name) => {
      const meant = suggestName(name, known)
      const advice = meant === undefined ? 'See docs/configuration.md.' : `Did you mean ${meant}?`
      return `${name} is not a setting of copal, and has no effect. ${advice}`
    })
}

function absoluteModel(spec: string, root: string): string {
  return /^[a-z]+:/.test(spec) ? spec : resolve(root, spec)
}

function readPort(env: Readonly<Record<string, string | undefined>>, name: string, standard: number): number {
  const text = env[name]
  if (!text) return standard
  const port = Number(text)
  if (Number.isInteger(port) && port >= 1 && port <= 65535) return port
  throw new StartError(`${name} is '${text}'. A port is a whole number from 1 to 65535.`)
}

function readSwitch(env: Readonly<Record<string, string | undefined>>, name: string): boolean {
  const text = env[name]
  if (!text || text === 'on') return true
  if (text === 'off') return false
  throw new StartError(`${name} is '${text}'. It must be 'on' or 'off'.`)
}
