import { homedir } from 'node:os'
import { join, resolve } from 'node:path'

/**
 * Returns the absolute path of the folder for models and what is computed from them: COPAL_CACHE, or `~/.cache/copal`.
 *
 * @param cwd what a relative path is relative to
 */
export function cacheFolder(env: { COPAL_CACHE?: string | undefined }, cwd = process.cwd()): string {
  return resolve(cwd, env.COPAL_CACHE || join(homedir(), '.cache', 'copal'))
}
