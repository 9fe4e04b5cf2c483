import { existsSync, realpathSync } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Where others are installed. */
export interface Installed {
  /** The script that starts it. */
  portkey: { script: string }
  /** The command `litellm`. */
  litellm: { command: string }
}

/** Where something is, or how to get it, in one line. */
export type Found<T> = { found: T } | { missing: string }

const PORTKEY_SCRIPT = join('@portkey-ai', 'gateway', 'build', 'start-server.js')

/**
 * Looks for Portkey's gateway: a folder that it was installed in with npm, or its command `gateway` on the PATH.
 *
 * @throws Error when a folder is given and it is not there
 */
export function findPortkey(folder: string | undefined, path: string): Found<Installed['portkey']> {
  // With newer versions of its server, which npm brings for a peer of its own, its streams fail.
  const how =
    'npm install --legacy-peer-deps --prefix <folder> @portkey-ai/gateway@1.15.2 @hono/node-server@1.12.2, ' +
    'then --portkey <folder>'
  if (folder !== undefined) {
    const script = join(folder, 'node_modules', PORTKEY_SCRIPT)
    if (!existsSync(script)) throw new Error(`--portkey: there is no ${script}; ${how}`)
    return { found: { script } }
  }
  const command = onPath('gateway', path)
  const script = command && realpathSync(command)
  return script?.endsWith(PORTKEY_SCRIPT)
    ? { found: { script } }
    : { missing: `Portkey is not there: ${how}` }
}

/**
 * Looks for LiteLLM's proxy: a virtual environment that it was installed in, or its command on the PATH.
 *
 * @throws Error when a virtual environment is given and it is not there
 */
export function findLitellm(folder: string | undefined, path: string): Found<Installed['litellm']> {
  const how = "python3 -m venv <folder> && <folder>/bin/pip install 'litellm[proxy]', then --litellm <folder>"
  if (folder !== undefined) {
    const command = join(folder, 'bin', 'litellm')
    if (!existsSync(command)) throw new Error(`--litellm: there is no ${command}; ${how}`)
    return { found: { command } }
  }
  const command = onPath('litellm', path)
  return command ? { found: { command } } : { missing: `LiteLLM is not there: ${how}` }
}

function onPath(command: string, path: string): string | undefined {
  return path
    .split(delimiter)
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, command))
    .find((file) => existsSync(file))
}
