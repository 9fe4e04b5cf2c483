import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import type { Terminal } from '../output/terminal.ts'

/** The address and keys of a gateway. A missing key becomes an error only when a call needs it. */
export interface Connection {
  /** Origin without a trailing slash: `http://127.0.0.1:8787`. */
  origin: string
  apiKey: string | undefined
  adminKey: string | undefined
}

/**
 * Reads COPAL_BASE_URL, COPAL_API_KEY and COPAL_ADMIN_KEY. Unset ones come from `credentials.json` under
 * COPAL_HOME, which `npm start` writes.
 *
 * @throws UserError `no_credentials` when neither names the gateway; `invalid_base_url`
 */
export function readConnection({ env, root }: Pick<Terminal, 'env' | 'root'>): Connection {
  const path = join(env.COPAL_HOME || join(root, '.copal'), 'credentials.json')
  const stored = readStored(path)
  const baseUrl = env.COPAL_BASE_URL || stored?.baseUrl
  if (baseUrl === undefined) {
    throw new UserError(
      'no_credentials',
      `The file ${path} does not exist. Start the service first (npm start), or set COPAL_BASE_URL, COPAL_API_KEY and COPAL_ADMIN_KEY.`,
    )
  }
  if (env.COPAL_BASE_URL && !isWebAddress(env.COPAL_BASE_URL)) {
    throw new UserError(
      'invalid_base_url',
      `COPAL_BASE_URL is '${env.COPAL_BASE_URL}': an address like https://copal.example.com is expected.`,
    )
  }
  // Keys of one gateway are never sent to another.
  const keys =
    env.COPAL_BASE_URL && originOf(env.COPAL_BASE_URL) !== originOf(stored?.baseUrl ?? '')
      ? undefined
      : stored
  return {
    origin: originOf(baseUrl),
    apiKey: env.COPAL_API_KEY || keys?.apiKey,
    adminKey: env.COPAL_ADMIN_KEY || keys?.adminKey,
  }
}

function isWebAddress(text: string): boolean {
  const url = URL.parse(text)
  return url?.protocol === 'https:' || url?.protocol === 'http:'
}

/** Returns the origin. OpenAI clients use a base URL with `/v1`, so that is accepted too. */
function originOf(baseUrl: string): string {
  return baseUrl.replace(/\/+$/, '').replace(/\/v1$/, '')
}

function readStored(path: string): { baseUrl?: string; apiKey?: string; adminKey?: string } | undefined {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
  try {
    return JSON.parse(text) as { baseUrl?: string; apiKey?: string; adminKey?: string }
  } catch (cause) {
    throw new UserError('no_credentials', `${path} is not valid JSON. Remove it and run npm start again.`, {
      cause,
    })
  }
}
