import { existsSync, realpathSync } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Where other gateways are installed. */
export interface Installed {
  /** The script that starts it. */
  portkey: { script: string }
  /** The command `litellm`. */
  litellm: { command: string }
}

/** Where a program was found, or one line that says how to install it. */
export type Found<T> = { found: T } | { missing: string }

const PORTKEY_SCRIPT = join('@portkey-ai', 'gateway', 'build', 'start-server.js')

/**
 * Finds Portkey's gateway in a folder where npm installed it, or by its command `gateway` on the PATH.
 *
 * @throws Error when it is not in the given folder
 */
export function findPortkey(folder: string | undefined, path: string): Found<Installed['portkey']> {
  // Its streams fail with newer versions of @hono/node-server, which npm would install for another peer.
  const how =
    'npm install --legacy-peer-deps --prefix <folder> @portkey-ai/gateway@1.15.2 @hono/node-server@1.12.2, ' +
    'then --portkey <folder>'
  if (folder !== undefined) {
    const script = join(folder, 'node_modules', PORTKEY_SCRIPT)
    if (!existsSync(script)) throw new Error(`--portkey: ${script} does not exist. To install it: ${how}`)
    return { found: { script } }
  }
  const command = onPath('gateway', path)
  const script = command && realpathSync(command)
  return script?.endsWith(PORTKEY_SCRIPT)
    ? { found: { script } }
    : { missing: `Portkey is not installed. To measure it: ${how}` }
}

/**
 * Finds LiteLLM's proxy in a virtual environment, or by its command on the PATH.
 *
 * @throws Error when it is not in the given virtual environment
 */
export function findLitellm(folder: string | undefined, path: string): Found<Installed['litellm']> {
  const how = "python3 -m venv <folder> && <folder>/bin/pip install 'litellm[proxy]', then --litellm <folder>"
  if (folder !== undefined) {
    const command = join(folder, 'bin', 'litellm')
    if (!existsSync(command)) throw new Error(`--litellm: ${command} does not exist. To install it: ${how}`)
    return { found: { command } }
  }
  const command = onPath('litellm', path)
  return command ? { found: { command } } : { missing: `LiteLLM is not installed. To measure it: ${how}` }
}

function onPath(command: string, path: string): string | undefined {
  return path
    .split(delimiter)
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, command))
    .find((file) => existsSync(file))
}
